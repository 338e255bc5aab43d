"""The way out of sessions that this process itself answers for: without a broker between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pythonic_assistant.adapters.egress.authority import Authority
from pythonic_assistant.adapters.egress.means import DEFAULT_LIMITS, Means, ProxyLimits, upstream_trust
from pythonic_assistant.adapters.egress.policy import Policy, Resolve, Route
from pythonic_assistant.adapters.egress.proxy import serve
from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.event import EgressRequested
from pythonic_assistant.domain.secret import BoundSecret
from pythonic_assistant.ports import EffectLedger


class ProxyEgress:
    """See `ports.Egress`. The arguments are those of `EgressBroker` and its `grant`."""

    def __init__(
        self,
        *,
        hosts: Sequence[str],
        report: Callable[[EgressRequested], None],
        secrets: Sequence[BoundSecret] = (),
        routes: Sequence[Route] = (),
        authority: Authority | None = None,
        cafile: Path | None = None,
        limits: ProxyLimits = DEFAULT_LIMITS,
        resolve: Resolve | None = None,
        ledger: EffectLedger | None = None,
    ) -> None:
        self._authority = authority or Authority()
        self._means = Means(
            policy=Policy(hosts, routes, resolve=resolve),
            authority=self._authority,
            trust=upstream_trust(cafile),
            limits=limits,
            secrets=secrets,
            report=report,
            ledger=ledger,
        )

    @property
    def hosts(self) -> Sequence[str]:
        """The names that may be reached."""
        return self._means.policy.hosts

    @property
    def certificate(self) -> str:
        """PEM of the authority."""
        return self._authority.certificate

    async def at(self, place: Place) -> None:
        """Say which execution the requests belong to. See `ports.Egress.at`."""
        self._means.place = place

    @asynccontextmanager
    async def serve(self, listener: socket.socket) -> AsyncGenerator[None]:
        """Answer on a listener until the context ends."""
        with listener:
            serving = asyncio.create_task(serve(listener, self._means))
            try:
                yield
            finally:
                serving.cancel()
                with suppress(asyncio.CancelledError):
                    await serving
                self._means.reporter.finish()
