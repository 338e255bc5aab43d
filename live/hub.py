"""Everybody who has a page open, one `Person` each, shared by all their tabs."""

from __future__ import annotations

import asyncio
import logging
import time

from live.person import Person
from live.sessions import Session, SessionBook
from live.supabase_access import SupabaseAccess

logger = logging.getLogger(__name__)

# A person without an open page is let go after this; long enough for a reload or a short loss of network.
_IDLE_SECONDS = 120.0
_LOOK_SECONDS = 15.0


class Hub:
    """Makes, finds and lets go persons. Used on the event loop only."""

    def __init__(self, access: SupabaseAccess, book: SessionBook) -> None:
        self._access = access
        self._book = book
        self._persons: dict[str, Person] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        book.on_closed(self._session_closed)

    async def run(self, ready: asyncio.Event) -> None:
        """Own every person's work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            ready.set()
            try:
                while True:
                    await asyncio.sleep(_LOOK_SECONDS)
                    self._let_go_idle()
            finally:
                self._group = None
                for task in self._tasks.values():
                    task.cancel()

    async def person(self, session: Session) -> Person:
        """The person of a session, with a feed that is kept current from now on."""
        person = self._persons.get(session.user_id)
        if person is None:
            if self._group is None:
                raise RuntimeError("The hub is not running.")
            person = Person(self._access, self._book, session.user_id)
            self._persons[session.user_id] = person
            self._tasks[session.user_id] = self._group.create_task(self._keep(person))
        person.used_at = time.monotonic()
        return person

    async def _keep(self, person: Person) -> None:
        """One person's failure must not end the others' connections."""
        try:
            await person.run()
        except Exception:
            logger.exception("a person's feed failed", extra={"action": "feed"})
        finally:
            person.feed.end()
            if self._persons.get(person.user_id) is person:
                del self._persons[person.user_id]
                self._tasks.pop(person.user_id, None)

    def _let_go_idle(self) -> None:
        now = time.monotonic()
        for user_id, person in list(self._persons.items()):
            if person.sockets == 0 and now - person.used_at > _IDLE_SECONDS:
                self._end(user_id)

    def _session_closed(self, session: Session) -> None:
        if self._book.of_user(session.user_id) is None:
            self._end(session.user_id)

    def _end(self, user_id: str) -> None:
        person = self._persons.pop(user_id, None)
        if person is not None:
            person.feed.end()
        task = self._tasks.pop(user_id, None)
        if task is not None:
            task.cancel()
