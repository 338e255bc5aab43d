"""What all connections of one grant share."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pythonic_assistant.adapters.egress.authority import Authority
from pythonic_assistant.adapters.egress.policy import Policy
from pythonic_assistant.adapters.egress.report import Reporter
from pythonic_assistant.adapters.egress.vault import Vault
from pythonic_assistant.domain.effect import Action, Begun, Go, Look, Outcome, Place
from pythonic_assistant.domain.event import EgressRequested
from pythonic_assistant.domain.secret import BoundSecret
from pythonic_assistant.ports import EffectLedger


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """Bounds of what code may ask of the proxy.

    Attributes:
        connections: of one session at the same time; more wait.
        head_seconds: for a request's head, from its first byte on, and for a TLS handshake.
        between_seconds: for the next request on a connection.
        connect_seconds: to reach a host, TLS included.
        idle_seconds: without a byte in either direction during a request.
        exchange_seconds: for a request and its answer.
        head_bytes: of a head, either way.
        buffered_bytes: of a body in which secrets may be put, or that is compared with an earlier one.
        recorded_bytes: of an answer's body that can be given again.
        answer_bytes: of an answer's body.
        reports: that are told one by one.
    """

    connections: int = 64
    head_seconds: float = 20.0
    between_seconds: float = 15.0
    connect_seconds: float = 10.0
    idle_seconds: float = 60.0
    exchange_seconds: float = 3600.0
    head_bytes: int = 64 << 10
    buffered_bytes: int = 16 << 20
    recorded_bytes: int = 1 << 20
    answer_bytes: int = 1 << 30
    reports: int = 500


DEFAULT_LIMITS: Final = ProxyLimits()
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, 9.2.1), so that a request may be sent twice."""


class Unrecorded:
    """A ledger for where nobody resumes the work: everything is done, and nothing written down."""

    async def begin(self, action: Action, place: Place, *, look: Look | None = None) -> Begun:  # noqa: ARG002
        """As the port."""
        return Go("", "")

    async def end(self, key: str, outcome: Outcome, *, result: Any = None, error: str | None = None) -> None:
        """As the port."""


class Means:
    """A grant, as the proxy works with it.

    Attributes:
        place: the execution that the requests belong to now.
        ledger: where those are written down that may change something.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        authority: Authority,
        trust: ssl.SSLContext,
        limits: ProxyLimits,
        secrets: Sequence[BoundSecret],
        report: Callable[[EgressRequested], None],
        ledger: EffectLedger | None = None,
    ) -> None:
        self.policy = policy
        self.authority = authority
        self.trust = trust
        self.limits = limits
        self.vault = Vault(secrets)
        self.place = Place()
        self.ledger: EffectLedger = ledger or Unrecorded()
        self.reporter = Reporter(report, most=limits.reports, redact=self.vault.redactor.text)


def upstream_trust(cafile: Path | None = None) -> ssl.SSLContext:
    """Return how hosts are checked: against the system's authorities, or those of a PEM file."""
    context = ssl.create_default_context(cafile=None if cafile is None else str(cafile))
    context.set_alpn_protocols(["http/1.1"])
    return context
