"""One signed-in person: their feed, kept current by one Realtime connection and by reading rows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, cast

from live.approval_desk import ApprovalDesk, EffectRow
from live.budget_desk import BudgetDesk
from live.desk import Desk
from live.feed import RULES, THREADS, ConnectionState, Feed, worker_list
from live.health_desk import HealthDesk
from live.realtime import keep_connected
from live.rows import AssistantRow, TaskRow, ThreadRow, event_row, worker_of
from live.rule_desk import RuleDesk
from live.schedules import ScheduleDesk
from live.secret_desk import SecretDesk
from live.sessions import SessionBook, SessionEndedError
from live.supabase_access import SupabaseAccess
from pythonic_assistant.domain.decision import Approval
from pythonic_assistant.domain.errors import AssistantError, StoreUnavailableError

logger = logging.getLogger(__name__)

# Enough for every card of a few long threads; beyond it ended tasks that are not on screen are dropped.
_MOST_FOLLOWED = 300
_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 10.0
_ASSISTANTS_SECONDS = 30.0


class Person:
    """What the pages of one person share. Methods run on the event loop; `feed` is read by any thread."""

    def __init__(self, access: SupabaseAccess, book: SessionBook, user_id: str) -> None:
        self.user_id = user_id
        self.feed = Feed()
        self.sockets = 0
        self.used_at = time.monotonic()
        self._access = access
        self._book = book
        self.desk = Desk(access, user_id, self.token)
        self.secret_desk = SecretDesk(access, self.token)
        self.budget_desk = BudgetDesk(access, user_id, self.token)
        self.health_desk = HealthDesk(access, self.token)
        self.schedule_desk = ScheduleDesk(access, self.token)
        self.rule_desk = RuleDesk(access, self.token, self.secret_desk)
        self.approval_desk = ApprovalDesk(access, self.token)
        self._waiting_stale = False
        self._settled: dict[int, Approval] = {}
        self._effects: dict[int, tuple[object, tuple[EffectRow, ...]]] = {}
        self._stale: set[int] = set()
        self._gaps: set[int] = set()
        self._told: set[int] = set()
        self._wake = asyncio.Event()
        self._threads: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._thread_list: tuple[ThreadRow, ...] | None = None
        self._list_changes = 0
        self._assistants: tuple[float, tuple[AssistantRow, ...]] | None = None

    async def token(self) -> str:
        """An access token of any session that the person has open.

        Raises:
            SessionEndedError: none is open.
            StoreUnavailableError: it must be refreshed and the sign-in service does not answer.
        """
        while (session := self._book.of_user(self.user_id)) is not None:
            try:
                return await self._book.token(session)
            except SessionEndedError:
                continue  # this one is out of the book now; the person may have another browser open
        raise SessionEndedError("The session has ended: sign in again.")

    async def run(self) -> None:
        """Keep the feed current until cancelled, or until the person has no session any more."""
        url, key = self._access.url, self._access.publishable_key
        try:
            async with asyncio.TaskGroup() as group:
                catching_up = group.create_task(self._catch_up())
                await keep_connected(url, key, self.user_id, self.token, self)
                catching_up.cancel()
        except* SessionEndedError:
            logger.info("a person's sessions have ended", extra={"action": "feed"})

    # What pages read

    async def open_thread(self, thread_id: str, limit: int) -> tuple[int, ...]:
        """Follow the newest tasks of a conversation; their ids, oldest first."""
        known = self._threads.get(thread_id)
        # While the connection is lost, what was read before is shown at once instead of waiting for nothing.
        if known is not None and (self.feed.connection == "lost" or known[0] == limit):
            return known[1]
        rows = await self.desk.tasks_of_thread(thread_id, limit)
        ids = tuple(row.id for row in rows)
        await self._follow(rows)
        self._threads[thread_id] = (limit, ids)
        self._drop_old(set(ids))
        return ids

    async def open_task(self, task_id: int) -> TaskRow | None:
        """Follow one task, if it is the person's."""
        view = self.feed.task(task_id)
        if view is not None:
            return view.row
        rows = await self.desk.tasks([task_id])
        await self._follow(rows)
        return rows[0] if rows else None

    async def tell(self, task_id: int) -> None:
        """Make sure that the events of a followed task are there."""
        if task_id not in self._told:
            self._told.add(task_id)
            try:
                events = await self.desk.events_after(task_id, self.feed.last_contiguous(task_id))
            except BaseException:
                self._told.discard(task_id)
                raise
            self.feed.put_events(task_id, events)

    async def threads(self) -> tuple[ThreadRow, ...]:
        """The conversations, newest first."""
        if self._thread_list is None:
            changes = self._list_changes
            found = await self.desk.threads()
            if changes != self._list_changes:
                return found  # it changed while it was read: shown, but read again next time
            self._thread_list = found
        return self._thread_list

    async def hosts_of(self, thread_id: str) -> tuple[str, ...]:
        """The hosts that code of a conversation may reach."""
        for thread in await self.threads():
            if thread.id == thread_id:
                return thread.hosts
        return await self.desk.allowed_hosts(thread_id)  # too old to be in the list

    async def allow(self, thread_id: str, hosts: tuple[str, ...]) -> None:
        """Let code of a conversation reach these hosts and no others."""
        await self.desk.allow(thread_id, hosts)
        self._forget_thread_list()
        self.feed.touch(THREADS)

    async def assistants(self) -> tuple[AssistantRow, ...]:
        """The assistants to choose from; at most 30 s old."""
        known = self._assistants
        fresh = known is not None and time.monotonic() - known[0] < _ASSISTANTS_SECONDS
        if known is not None and (fresh or self.feed.connection == "lost"):
            return known[1]
        self._assistants = (time.monotonic(), await self.desk.assistants())
        return self._assistants[1]

    async def waiting(self) -> tuple[Approval, ...]:
        """What waits for the person over all threads, newest first."""
        if self.feed.waiting is None:
            self.feed.set_waiting(await self.approval_desk.pending())
        return self.feed.waiting or ()

    async def asked_before(self, ids: frozenset[int]) -> tuple[Approval, ...]:
        """What was asked, as it was decided, newest first."""
        missing = ids - self._settled.keys()
        if missing:
            found = await self.approval_desk.some(missing)
            self._settled |= {one.id: one for one in found if not one.pending}
        return tuple(self._settled[key] for key in sorted(ids & self._settled.keys(), reverse=True))

    async def decide(
        self, approval: Approval, decision: str, answer: str | None = None, *, always: bool = False
    ) -> None:
        """Decide about something; whatever comes of it, how it stands is read again."""
        try:
            await self.approval_desk.decide(approval.id, decision, answer, always=always)
        finally:
            self._ask_again(approval.task_id)

    async def effects(self, task_id: int, stamp: object) -> tuple[EffectRow, ...]:
        """What a task did outside; read again once `stamp`, made of what is known of it, is another."""
        known = self._effects.get(task_id)
        if known is None or known[0] != stamp:
            known = (stamp, await self.approval_desk.effects(task_id))
            self._effects[task_id] = known
        return known[1]

    def added(self, row: TaskRow) -> None:
        """Follow a task that was just asked here, before the database tells of it."""
        self._told.add(row.id)
        self.feed.put_task(row)
        self._forget_lists(row.thread_id)
        self._refresh(row.id)

    def threads_changed(self) -> None:
        """The person changed a conversation here."""
        self._forget_thread_list()
        self._threads.clear()
        self.feed.touch(THREADS)

    # What Realtime tells

    def heard_task(self, payload: Mapping[str, Any]) -> None:
        """A task's state has changed."""
        task_id, thread_id = int(payload["task_id"]), cast("str | None", payload.get("thread_id"))
        known = self.feed.task(task_id) is not None
        self.feed.hint(
            task_id,
            state=str(payload.get("state")),
            attempt=int(payload.get("attempt") or 0),
            verdict=payload.get("verdict"),
            cancelling=bool(payload.get("cancelling")) and payload.get("state") == "running",
        )
        if payload.get("state") == "failed" and payload.get("kind") != "probe":
            self.feed.put_failure(task_id, thread_id)
            self.feed.touch(THREADS)
        self._forget_thread_list()
        if any(one.task_id == task_id for one in self.feed.waiting or ()):
            self._ask_again(task_id)  # with its task a question ends
        if known:
            self._refresh(task_id)
        else:
            self._forget_lists(thread_id)

    def heard_delivery(self, _payload: Mapping[str, Any]) -> None:
        """Something was delivered by a rule, or could not be."""
        self.feed.touch(RULES)

    def heard_tasks(self, payload: Mapping[str, Any]) -> None:
        """The states of several tasks have changed together."""
        for task in cast("list[Mapping[str, Any]]", payload["tasks"]):
            self.heard_task(task)

    def heard_approvals(self, payload: Mapping[str, Any]) -> None:
        """Something waits for the person, or does not any more."""
        self._ask_again(int(payload["task_id"]))

    def heard_events(self, payload: Mapping[str, Any]) -> None:
        """Events of a task were stored."""
        task_id, attempt = int(payload["task_id"]), int(payload["attempt"])
        if task_id not in self._told:
            return
        events: Any = payload.get("events")
        complete = False
        if isinstance(events, list):
            listed = cast("list[Mapping[str, Any]]", events)
            complete = self.feed.put_events(task_id, [event_row(attempt, event) for event in listed])
            if any(event.get("kind") == "artifact_saved" for event in listed):
                self._refresh(task_id)
        if not complete:
            self._gaps.add(task_id)
            self._wake.set()

    def heard_presence(self, state: Mapping[str, Any]) -> None:
        """Workers came or went."""
        self.feed.set_workers(worker_list(state, worker_of))

    def heard_connection(self, state: ConnectionState) -> None:
        """The Realtime connection is there or lost; once it is there, everything is read again."""
        if state == "connected":
            opened = tuple(self._threads)
            self._forget_thread_list()
            self._threads.clear()
            self._stale.update(row.id for row in self.feed.followed())
            self._waiting_stale = True
            self._wake.set()
            self.feed.set_connection(state)
            for thread_id in opened:
                self.feed.touch(f"thread:{thread_id}")
            self.feed.touch(THREADS)
            self.feed.touch(RULES)
        else:
            self.feed.set_connection(state)
            self.feed.set_workers(())

    # Reading rows

    async def _follow(self, rows: tuple[TaskRow, ...]) -> None:
        fresh = [row.id for row in rows]
        for row in rows:
            self.feed.put_task(row)
        if fresh:
            artifacts = await self.desk.artifacts(fresh)
            asked = await self.approval_desk.of_tasks(fresh)
            for task_id in fresh:
                self.feed.put_artifacts(task_id, tuple(a for a in artifacts if a.task_id == task_id))
                self.feed.put_approvals(task_id, tuple(a for a in asked if a.task_id == task_id))
        for row in rows:
            if not row.final:
                await self.tell(row.id)
                # A change that was broadcast between the reading and the following is found by reading again.
                self._refresh(row.id)

    async def _catch_up(self) -> None:
        pause = _RETRY_SECONDS
        while True:
            await self._wake.wait()
            self._wake.clear()
            stale, gaps, waiting_stale = self._stale, self._gaps, self._waiting_stale
            self._stale, self._gaps, self._waiting_stale = set(), set(), False
            try:
                if waiting_stale:
                    self.feed.set_waiting(await self.approval_desk.pending())
                await self._read_again(stale, gaps)
            except SessionEndedError:
                raise
            except AssistantError as error:
                # Whatever the reason, what was not read stays to be read: a card must not show an old state.
                self._stale |= stale
                self._gaps |= gaps
                self._waiting_stale = self._waiting_stale or waiting_stale
                self._wake.set()
                level = logging.INFO if isinstance(error, StoreUnavailableError) else logging.WARNING
                logger.log(level, "rows not read: %s", str(error)[:200], extra={"action": "catch_up"})
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_RETRY_SECONDS)
            else:
                pause = _RETRY_SECONDS

    async def _read_again(self, stale: set[int], gaps: set[int]) -> None:
        if stale:
            ids = sorted(stale)
            rows = await self.desk.tasks(ids)
            artifacts = await self.desk.artifacts(ids)
            asked = await self.approval_desk.of_tasks(ids)
            found = {row.id for row in rows}
            for task_id in stale - found:
                self.feed.forget(task_id)
            for row in rows:
                self.feed.put_artifacts(row.id, tuple(a for a in artifacts if a.task_id == row.id))
                self.feed.put_approvals(row.id, tuple(a for a in asked if a.task_id == row.id))
                self.feed.put_task(row)
        for task_id in sorted((stale | gaps) & self._told):
            events = await self.desk.events_after(task_id, self.feed.last_contiguous(task_id))
            self.feed.put_events(task_id, events)

    def _ask_again(self, task_id: int) -> None:
        self._waiting_stale = True
        if self.feed.task(task_id) is not None:
            self._stale.add(task_id)
        self._wake.set()

    def _refresh(self, task_id: int) -> None:
        self._stale.add(task_id)
        self._wake.set()

    def _forget_thread_list(self) -> None:
        self._thread_list = None
        self._list_changes += 1

    def _forget_lists(self, thread_id: str | None) -> None:
        self._forget_thread_list()
        if thread_id is not None:
            self._threads.pop(thread_id, None)
            self.feed.touch(f"thread:{thread_id}")
        self.feed.touch(THREADS)

    def _drop_old(self, keep: set[int]) -> None:
        followed = self.feed.followed()
        if len(followed) <= _MOST_FOLLOWED:
            return
        for row in followed:
            if row.final and row.id not in keep:
                self.feed.forget(row.id)
                self._effects.pop(row.id, None)
                self._told.discard(row.id)
        self._threads = {name: entry for name, entry in self._threads.items() if set(entry[1]) <= keep}
