"""The queue and the journal on PostgreSQL itself: the same functions as over the API, in one round trip."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any
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

_RETURN_JSON = frozenset({"claim_tasks", "cycle_tasks", "heartbeat_tasks", "begin_effect", "ask_outcome"})


class PostgresQueue(QueueFunctions):
    """See `QueueFunctions`; has one session, opened when it is needed and again when it was lost.

    A task that waits is told to a `PostgresListener`, which has a session of its own.

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
        self._session: Session | None = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def tells_along(self) -> bool:
        """One statement calls both functions."""
        return True

    async def close(self) -> None:
        """End the session."""
        async with self._one_at_a_time:
            self._drop()

    async def _ask(self, calls: Sequence[Call], deadline: float) -> list[Any]:
        values = [_sent(value) for one in calls for value in one.arguments.values()]
        with in_words(calls[-1].function.replace("_", " ")):
            try:
                async with asyncio.timeout(deadline), self._one_at_a_time:
                    row = await self._run(_statement(calls), values)
            except TimeoutError:
                # Also when another call was waited for: whatever takes that long will not be answered.
                self._drop()
                raise
        return [
            json.loads(value) if one.function in _RETURN_JSON else value
            for one, value in zip(calls, row, strict=False)
        ]

    async def _run(self, statement: str, values: Sequence[Any]) -> Any:
        session = await self._opened()
        try:
            if not self._by_transaction:
                return await session.fetchrow(statement, *values)
            await session.execute(_BEGIN)
            row = await session.fetchrow(statement, *values)
            await session.execute("commit")
        except Refusal:
            if self._by_transaction or session.is_closed():
                self._drop()
            raise
        except BaseException:
            self._drop()  # cancelled or cut off, it may be in the midst of anything
            raise
        return row

    async def _opened(self) -> Session:
        if self._session is None or self._session.is_closed():
            self._session = await open_session(self._url, by_transaction=self._by_transaction)
        return self._session

    def _drop(self) -> None:
        if self._session is not None:
            self._session.terminate()
            self._session = None


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
