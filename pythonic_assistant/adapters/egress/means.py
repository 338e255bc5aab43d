"""What all connections of one grant share."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pythonic_assistant.adapters.egress.authority import Authority
from pythonic_assistant.adapters.egress.policy import Policy
from pythonic_assistant.adapters.egress.refusal import RefusedError
from pythonic_assistant.adapters.egress.report import Reporter
from pythonic_assistant.adapters.egress.vault import Vault
from pythonic_assistant.domain.event import EgressBegun, EgressRequested
from pythonic_assistant.domain.secret import BoundSecret


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
        buffered_bytes: of a body in which secrets may be put.
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
    answer_bytes: int = 1 << 30
    reports: int = 500


DEFAULT_LIMITS: Final = ProxyLimits()
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, 9.2.1), so that a request may be sent twice."""
Announce = Callable[[EgressBegun], Awaitable[bool]]
"""Stores what is about to be sent; False where it must not be sent."""


async def unannounced(_: EgressBegun) -> bool:
    """Let a request go where nobody resumes the work."""
    return True


class Means:
    """A grant, as the proxy works with it.

    Attributes:
        sent: hosts and methods of requests that may have changed something.
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
        announce: Announce = unannounced,
    ) -> None:
        self.policy = policy
        self.authority = authority
        self.trust = trust
        self.limits = limits
        self.vault = Vault(secrets)
        self.reading = False  # True while only safe methods are let out
        self.reporter = Reporter(report, most=limits.reports, redact=self.vault.redactor.text)
        self.sent: set[tuple[str, str]] = set()
        self._announce = announce

    async def about_to_send(self, method: str, host: str) -> None:
        """Have it stored that a request is sent which may change something; once for each kind of it.

        Raises:
            RefusedError: it must not be sent any more.
        """
        if method in SAFE or (method, host) in self.sent:
            return
        if not await self._announce(EgressBegun(host=host, method=method)):
            raise RefusedError(
                "What this session sends cannot be recorded any more, so nothing is sent: its attempt has "
                "ended, or the database refused what was to be recorded."
            )
        self.sent.add((method, host))


def upstream_trust(cafile: Path | None = None) -> ssl.SSLContext:
    """Return how hosts are checked: against the system's authorities, or those of a PEM file."""
    context = ssl.create_default_context(cafile=None if cafile is None else str(cafile))
    context.set_alpn_protocols(["http/1.1"])
    return context
