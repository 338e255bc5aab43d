"""Looks after lite when a request waits: a process that runs but does not answer is as good as dead.

Nothing is asked while requests are answered, so an idle assistant costs no statement.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from embedded_supabase.sql import UNREACHABLE, Session

log = logging.getLogger(__name__)

PROBE_SECONDS = 5.0
PROBES = 2
"""In vain, one after the other, until lite counts as stuck: a loaded machine is late, but not twice."""

PAUSE_SECONDS = 1.0


class Liveness:
    """Ends lite when it does not answer though PostgreSQL does; whoever keeps it alive starts it again."""

    def __init__(
        self, socket: Path, connect: Callable[[], Awaitable[Session]], end: Callable[[], None]
    ) -> None:
        """Keep what is needed.

        Args:
            socket: lite's public one; `/live` on it is answered by what a request needs.
            connect: opens a connection to PostgreSQL; raises one of `sql.UNREACHABLE`.
            end: ends lite.
        """
        self._socket = socket
        self._connect = connect
        self._end = end
        self._suspected = asyncio.Event()

    def suspect(self) -> None:
        """A request has waited for long."""
        self._suspected.set()

    async def run(self) -> None:
        """Look whenever there is a suspicion, until cancelled."""
        while True:
            await self._suspected.wait()
            self._suspected.clear()
            if await self._stuck():
                log.error("Supabase Lite does not answer though PostgreSQL does: it is started again.")
                self._end()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _stuck(self) -> bool:
        for _ in range(PROBES):
            # PostgreSQL is asked last: one that has just come back is no reason to blame lite.
            if await self._lite_answers() or not await self._postgres_answers():
                return False
        return True

    async def _postgres_answers(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                connection = await self._connect()
                try:
                    await connection.execute("select 1")
                finally:
                    await connection.close()
        except UNREACHABLE:
            return False
        return True

    async def _lite_answers(self) -> bool:
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        try:
            async with (
                asyncio.timeout(PROBE_SECONDS),
                httpx.AsyncClient(transport=transport, timeout=PROBE_SECONDS) as client,
            ):
                answer = await client.get("http://lite/live")
        except (httpx.TransportError, OSError):
            return False
        return answer.is_success
