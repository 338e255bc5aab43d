"""Follow one task: broadcasts say that there is something new, the rows say what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from pythonic_assistant.adapters.realtime_line import RealtimeLine, Subscription
from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.cli.account import SignedIn
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.task import FINAL_STATES

LOOK_SECONDS = 5.0
"""Between two looks without a broadcast: broadcasts may be lost, the rows never are."""

PAGE_ROWS = 500
"""Below the 1,000 rows that hosted Supabase returns at most."""

OnEvent = Callable[[Mapping[str, Any]], None]
OnLook = Callable[[Mapping[str, Any]], Awaitable[None]]


async def follow(
    person: SignedIn,
    task_id: int,
    on_event: OnEvent,
    on_unreachable: Callable[[str], None],
    on_look: OnLook | None = None,
    until: Collection[str] = FINAL_STATES,
) -> Mapping[str, Any]:
    """Hand over the task's events in order as they come; returns its row once its state is one of `until`.

    `on_look` is given the row each time it was read. A database that does not answer is waited for;
    `on_unreachable` is told once each time.
    """
    news = asyncio.Event()

    def heard(payload: Mapping[str, Any]) -> None:
        if payload.get("task_id") == task_id:
            news.set()

    def heard_several(payload: Mapping[str, Any]) -> None:
        for task in payload["tasks"]:
            heard(task)

    line = RealtimeLine(
        url=person.url,
        key=person.publishable_key,
        token=person.token,
        subscriptions=(
            Subscription(
                topic=f"user:{person.user_id}",
                on_broadcast={
                    "task": heard,
                    "tasks": heard_several,
                    "events": heard,
                    "approvals": heard,
                },
            ),
        ),
        on_up=news.set,
        on_down=news.set,
    )
    keeping = asyncio.create_task(line.keep(), name="realtime")
    try:
        last, reachable = (0, 0), True
        while True:
            news.clear()
            try:
                task = await _task(person, task_id)
                last = await _catch_up(person, task_id, last, on_event)
                if on_look is not None:
                    await on_look(task)
                reachable = True
            except StoreUnavailableError as error:
                if reachable:
                    on_unreachable(str(error))
                reachable, task = False, None
            if task is not None and task["state"] in until:
                return task
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await news.wait()
            except TimeoutError:
                continue
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def _task(person: SignedIn, task_id: int) -> Mapping[str, Any]:
    reply = await call("read the task", person.client.table("tasks").select("*").eq("id", task_id).execute())
    rows: Any = reply.data
    if not rows:
        raise InvalidInputError(f"There is no task {task_id} of yours.")
    return rows[0]


async def _catch_up(
    person: SignedIn, task_id: int, last: tuple[int, int], on_event: OnEvent
) -> tuple[int, int]:
    while True:
        attempt, seq = last
        reply = await call(
            "read the events",
            person.client.table("task_events")
            .select("attempt,seq,kind,step_id,data")
            .eq("task_id", task_id)
            .or_(f"attempt.gt.{attempt},and(attempt.eq.{attempt},seq.gt.{seq})")
            .order("attempt")
            .order("seq")
            .limit(PAGE_ROWS)
            .execute(),
        )
        rows: Any = reply.data
        for row in rows:
            on_event(row)
            last = (row["attempt"], row["seq"])
        if len(rows) < PAGE_ROWS:
            return last
