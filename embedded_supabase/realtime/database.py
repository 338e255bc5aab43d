"""Messages that the database sends: a LISTEN connection that resumes without a gap.

`realtime.send` inserts into `realtime.messages`; a trigger announces the row with NOTIFY, which reaches us
after the commit. When the connection is lost, what was missed is read from the table: all rows of
transactions that had not surely ended when the connection was last known to be alive, less those that
were already delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from embedded_supabase.realtime.channels import Hub
from embedded_supabase.sql import UNREACHABLE, Connection, Session

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 5.0
PRUNE_SECONDS = 600.0
KEEP = "1 day"
"""Hosted Supabase keeps messages for three days; here they serve replay and resuming only."""

BACKOFF_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_COLUMNS = "id, written_by::text as written_by, topic, event, private, payload"

Connect = Callable[[], Awaitable[Session]]


class MessageFeed:
    """Carries messages from the database to the hub.

    Attributes:
        listening: set while the LISTEN connection is up.
    """

    def __init__(self, connect: Connect, hub: Hub) -> None:
        self.listening = asyncio.Event()
        self._connect = connect
        self._hub = hub
        self._delivered: dict[str, int] = {}  # id → transaction, of what a resuming reader might see again
        self._floor: int | None = None  # transactions below have ended and their messages have been delivered
        self._next_floor = 0
        self._fresh = False  # whether something was delivered since the last checkpoint

    async def run(self) -> None:
        """Listen until cancelled, reconnecting for as long as it takes."""
        failures = 0
        while True:
            try:
                connection = await self._connect()
                failures = 0
                await self._follow(connection)
            except UNREACHABLE as error:
                log.debug("the feed of messages is interrupted: %s", type(error).__name__)
            finally:
                self.listening.clear()
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1

    async def _follow(self, connection: Session) -> None:
        arrived: asyncio.Queue[str | None] = asyncio.Queue()

        def notified(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            arrived.put_nowait(str(payload))

        def lost(_connection: object) -> None:
            arrived.put_nowait(None)

        connection.add_termination_listener(lost)
        try:
            await connection.add_listener("realtime_messages", notified)
            await self._resume(connection)
            self.listening.set()
            clock = asyncio.get_running_loop().time
            prune_at, checkpoint_at = clock(), clock() + CHECKPOINT_SECONDS
            while True:
                try:
                    async with asyncio.timeout_at(checkpoint_at):
                        announcement = await arrived.get()
                except TimeoutError:
                    await self._checkpoint(connection)
                    if clock() >= prune_at:
                        await self._prune(connection)
                        prune_at = clock() + PRUNE_SECONDS
                    checkpoint_at = clock() + CHECKPOINT_SECONDS
                    continue
                if announcement is None:
                    return
                await self._announced(connection, announcement)
        finally:
            with contextlib.suppress(*UNREACHABLE):
                async with asyncio.timeout(2):
                    await connection.close()

    async def _resume(self, connection: Connection) -> None:
        if self._floor is None:
            self._floor = self._next_floor = await _oldest_running(connection)
            return
        rows = await connection.fetch(
            f"select {_COLUMNS} from realtime.messages "  # noqa: S608 - the columns are a constant
            "where written_by >= $1::text::xid8 and extension = 'broadcast' order by position",
            str(self._floor),
        )
        for row in rows:
            self._deliver(
                str(row["id"]),
                int(row["written_by"]),
                row["topic"],
                row["event"],
                row["private"],
                json.loads(row["payload"] or "{}"),
            )

    async def _announced(self, connection: Connection, announcement: str) -> None:
        message: dict[str, Any] = json.loads(announcement)
        if "topic" not in message:  # too large for NOTIFY
            row = await connection.fetchrow(
                f"select {_COLUMNS} from realtime.messages where id = $1::text::uuid",  # noqa: S608
                message["id"],
            )
            if row is None:
                return
            message = {**row, "id": str(row["id"]), "payload": json.loads(row["payload"] or "{}")}
        self._deliver(
            message["id"],
            int(message["written_by"]),
            message["topic"],
            message["event"],
            message["private"],
            message["payload"],
        )

    def _deliver(
        self,
        identity: str,
        written_by: int,
        topic: str,
        event: str | None,
        private: bool | None,
        payload: Any,
    ) -> None:
        if identity in self._delivered:
            return
        self._delivered[identity] = written_by
        self._fresh = True
        self._hub.broadcast(
            f"realtime:{topic}",
            {"type": "broadcast", "event": event, "payload": payload, "meta": {"id": identity}},
            private=bool(private),
        )

    async def _checkpoint(self, connection: Connection) -> None:
        if not self._fresh and self._next_floor == self._floor:
            return  # idle: no statement at all
        self._fresh = False
        # One interval behind: a notification may be on its way for a transaction that has just ended.
        self._floor, self._next_floor = self._next_floor, await _oldest_running(connection)
        floor = self._floor
        self._delivered = {key: xid for key, xid in self._delivered.items() if xid >= floor}

    async def _prune(self, connection: Connection) -> None:
        await connection.execute(
            "delete from realtime.messages where inserted_at < now() - $1::text::interval", KEEP
        )


async def _oldest_running(connection: Connection) -> int:
    value = await connection.fetchval("select pg_snapshot_xmin(pg_current_snapshot())::text")
    return int(value)
