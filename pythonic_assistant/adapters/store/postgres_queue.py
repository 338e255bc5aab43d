"""The queue and the journal on PostgreSQL itself: the same functions as over the API, in one round trip."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from pythonic_assistant.adapters.store.postgres_session import (
    ROLE,
    STATEMENT_SECONDS,
    Refusal,
    Session,
    in_words,
    open_session,
)
from pythonic_assistant.adapters.store.queue_functions import Call, Json, QueueFunctions

_BEGIN = f"begin; set local role {ROLE}; set local statement_timeout = '{STATEMENT_SECONDS:g}s'"

SESSIONS: Final = 2

_RETURN_JSON = frozenset({"claim_tasks", "cycle_tasks", "heartbeat_tasks", "begin_effect", "ask_outcome"})


class PostgresQueue(QueueFunctions):
    """See `QueueFunctions`; has two sessions, each opened when it is needed and again when it was lost.

    The second is needed while the first is busy: events do not wait for a claim. A task that waits is told
    to a `PostgresListener`, which has a session of its own.

    Args:
        url: of the database, with a user who may act as the service role.
        by_transaction: whether a pooler stands between that hands out sessions by the transaction.
    """

    def __init__(
        self,
        url: str,
        *,
        worker: UUID,
        lease_seconds: float,
        queue: str = "default",
        labels: Sequence[str] = (),
        by_transaction: bool = False,
    ) -> None:
        super().__init__(worker=worker, lease_seconds=lease_seconds, queue=queue, labels=labels)
        self._url = url
        self._by_transaction = by_transaction
        self._sessions: list[Session | None] = [None] * SESSIONS
        self._idle: asyncio.LifoQueue[int] = asyncio.LifoQueue()
        for place in reversed(range(SESSIONS)):
            self._idle.put_nowait(place)

    @property
    def tells_along(self) -> bool:
        """One statement calls both functions."""
        return True

    async def close(self) -> None:
        """End the sessions."""
        for place in range(SESSIONS):
            self._drop(place)

    async def _ask(self, calls: Sequence[Call], deadline: float) -> list[Any]:
        values = [_sent(value) for one in calls for value in one.arguments.values()]
        with in_words(calls[-1].function.replace("_", " ")):
            async with asyncio.timeout(deadline):
                place = await self._idle.get()
                try:
                    row = await self._run(place, _statement(calls), values)
                finally:
                    self._idle.put_nowait(place)
        return [
            json.loads(value) if one.function in _RETURN_JSON else value
            for one, value in zip(calls, row, strict=False)
        ]

    async def _run(self, place: int, statement: str, values: Sequence[Any]) -> Any:
        session = await self._opened(place)
        try:
            if not self._by_transaction:
                return await session.fetchrow(statement, *values)
            await session.execute(_BEGIN)
            row = await session.fetchrow(statement, *values)
            await session.execute("commit")
        except Refusal:
            if self._by_transaction or session.is_closed():
                self._drop(place)
            raise
        except BaseException:
            self._drop(place)  # cancelled or cut off, it may be in the midst of anything
            raise
        return row

    async def _opened(self, place: int) -> Session:
        session = self._sessions[place]
        if session is None or session.is_closed():
            session = self._sessions[place] = await open_session(
                self._url, by_transaction=self._by_transaction
            )
        return session

    def _drop(self, place: int) -> None:
        session, self._sessions[place] = self._sessions[place], None
        if session is not None:
            session.terminate()


def _sent(value: Any) -> Any:
    return json.dumps(value.value) if isinstance(value, Json) else value


def _statement(calls: Sequence[Call]) -> str:
    """`select` of functions with their arguments by name, numbered through."""
    texts: list[str] = []
    number = 0
    for one in calls:
        marks: list[str] = []
        for name in one.arguments:
            number += 1
            marks.append(f"{name} => ${number}")
        texts.append(f"public.{one.function}({', '.join(marks)})")
    if len(calls) > 1 and calls[-1].function == "cycle_tasks":
        # A sign of life asks for a commit that does not wait for the disk; endings and claims shall.
        texts.append("pg_catalog.set_config('synchronous_commit', 'on', true)")
    return f"select {', '.join(texts)}"
