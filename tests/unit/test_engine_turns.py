"""The engine's two turns: what ends at the same time travels in both, and no slot is given away twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.ending import Ending, Finished
from pythonic_assistant.domain.errors import StoreUnavailableError
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.domain.verdict import Verdict
from pythonic_assistant.ports import Claim, Cycle, Endings, Facts, Fence, LeaseStatus
from worker.attempt import Attempt
from worker.config import WorkerConfig
from worker.engine import Engine

pytestmark = pytest.mark.timeout(60)


class Memory:
    """A queue without a database: gives what waits, and keeps what ended.

    Attributes:
        held_up: whether calls wait until `answer`.
    """

    tells_along = True

    def __init__(self, waiting: int, slots: int) -> None:
        self._numbers: list[int] = []
        self._added = 0
        self.add(waiting)
        self.slots = slots
        self._under_way: list[tuple[tuple[int, int], asyncio.Event]] = []
        self.ended: Counter[int] = Counter()
        self.held: set[int] = set()
        self.held_up = False
        self.failing = 0

    def add(self, count: int) -> None:
        """So many more tasks wait."""
        self._numbers += range(self._added + 1, self._added + count + 1)
        self._added += count

    @property
    def calls(self) -> list[tuple[int, int]]:
        """The calls under way now, as (endings, slots asked for)."""
        return sorted(call for call, _ in self._under_way)

    def answer(self) -> None:
        """Answer the call that has waited longest."""
        self._under_way[0][1].set()

    async def pause(self, told: asyncio.Event) -> None:
        if self.held_up:
            await told.wait()

    async def cycle(
        self, ended: Sequence[Ending], most: int, held: Sequence[Fence], seen: Facts | None = None
    ) -> Cycle:
        # As the database does it: what comes after the call has begun is not seen by it.
        taken = [self._numbers.pop(0) for _ in range(min(most, len(self._numbers)))]
        call = ((len(ended), most), asyncio.Event())
        self._under_way.append(call)
        try:
            await self.pause(call[1])
            if self.failing:
                self.failing -= 1
                self._numbers = taken + self._numbers
                raise StoreUnavailableError("away")
        finally:
            self._under_way.remove(call)
        for ending in ended:
            self.ended[ending.task_id] += 1
            self.held.remove(ending.task_id)
        self.held |= set(taken)
        assert len(self.held) <= self.slots, "more than there are slots"
        tasks = tuple(_task(number) for number in taken)
        kept = {Fence(ending.task_id, ending.attempt): True for ending in ended}
        return Cycle(kept=kept, claim=Claim(tasks=tasks, unreadable=(), next_due_seconds=None))

    async def end(self, ending: Ending) -> bool:
        raise AssertionError("nothing is refused here")

    async def recover(self) -> int:
        return 0

    async def heartbeat(
        self, held: Sequence[Fence], seen: Facts | None = None
    ) -> Mapping[Fence, LeaseStatus]:
        return dict.fromkeys(held, "ok")

    async def seen(self, facts: Facts) -> None:
        return


class Slow(Memory):
    """Answers after a while that nobody knows."""

    async def pause(self, told: asyncio.Event) -> None:
        await asyncio.sleep(random.uniform(0, 0.004))


def _task(number: int) -> ClaimedTask:
    return ClaimedTask(
        id=number, attempt=1, user_id="", kind="task", prompt="", thread_id=None, model=None, instructions="",
        inputs=(), resume=None, history=(), hosts=(), limits={}, tools=(), saved=(), recorded=(),
        spent=Usage(),
    )  # fmt: skip


class Working:
    """In place of an attempt: works for so many seconds at most, or until it is stopped; then ends well."""

    def __init__(self, task: ClaimedTask, endings: Endings, seconds: float) -> None:
        self.task = task
        self.fence = Fence(task.id, task.attempt)
        self._endings = endings
        self._seconds = seconds
        self._stopped = asyncio.Event()

    def stop(self, _reason: str) -> None:
        self._stopped.set()

    async def work(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._stopped.wait()
        assert await self._endings.end(
            Finished(
                task_id=self.task.id, attempt=1, answer="", verdict=Verdict(kind="unverified"), usage=Usage()
            )
        )


@asynccontextmanager
async def serving(
    queue: Memory, *, longest: float = 0.0, lasting: Collection[int] = ()
) -> AsyncIterator[Engine]:
    def attempt_of(task: ClaimedTask, endings: Endings) -> Attempt:
        seconds = 60.0 if task.id in lasting else random.uniform(0, longest)
        return cast("Attempt", Working(task, endings, seconds))

    engine = Engine(
        config=WorkerConfig(supabase_url="", supabase_key="", home=Path(), slots=queue.slots),
        queue=queue,
        store=queue,
        attempt_of=attempt_of,
        facts=lambda: {"worker": str(uuid4())},
    )
    serve = asyncio.create_task(engine.serve())
    try:
        yield engine
        engine.drain()
        async with asyncio.timeout(10):
            await serve
    finally:
        serve.cancel()
        await asyncio.wait({serve})


async def until_calls(queue: Memory, *calls: tuple[int, int]) -> None:
    async with asyncio.timeout(10):
        while queue.calls != sorted(calls):
            await asyncio.sleep(0.001)


async def until_ended(queue: Memory, count: int, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while sum(queue.ended.values()) < count:
            await asyncio.sleep(0.001)
    assert queue.ended == dict.fromkeys(range(1, count + 1), 1)


async def test_what_ends_at_the_same_time_travels_in_two_turns() -> None:
    queue = Memory(waiting=7, slots=5)
    queue.held_up = True
    async with serving(queue):
        await until_calls(queue, (0, 5))
        queue.answer()
        await until_calls(queue, (3, 3), (2, 2))
        queue.held_up = False
        queue.answer()
        await asyncio.sleep(0)
        queue.answer()
        await until_ended(queue, 7)


async def test_a_worker_with_one_slot_makes_one_turn_at_a_time() -> None:
    queue = Memory(waiting=3, slots=1)
    queue.held_up = True
    async with serving(queue):
        await until_calls(queue, (0, 1))
        queue.answer()
        await until_calls(queue, (1, 1))
        await asyncio.sleep(0.05)
        assert queue.calls == [(1, 1)]
        queue.held_up = False
        queue.answer()
        await until_ended(queue, 3)


async def test_what_two_failed_turns_could_not_tell_is_told_by_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = Memory(waiting=4, slots=4)
    queue.held_up = True
    async with serving(queue):
        await until_calls(queue, (0, 4))
        queue.answer()
        await until_calls(queue, (2, 2), (2, 2))
        queue.failing = 2
        queue.held_up = False
        queue.answer()
        await until_calls(queue, (2, 2))
        queue.answer()
        await until_ended(queue, 4)
    assert "second turn not answered" in caplog.text


async def test_a_task_that_comes_while_the_second_turn_has_the_last_slot_waits_for_no_poll() -> None:
    queue = Memory(waiting=3, slots=2)
    queue.held_up = True
    async with serving(queue, lasting={3}) as engine:
        engine.condition.hints = True  # and so the next look is 5 s away
        await until_calls(queue, (0, 2))
        queue.answer()
        await until_calls(queue, (1, 1), (1, 1))
        queue.answer()
        await until_calls(queue, (1, 1))
        queue.add(1)
        engine.wake()
        await asyncio.sleep(0.05)
        assert queue.calls == [(1, 1)], "one slot is taken, and one is asked for"
        queue.held_up = False
        queue.answer()
        async with asyncio.timeout(2):
            while 4 not in queue.ended:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("slots", [1, 2, 3, 10])
async def test_nothing_is_lost_between_two_turns(slots: int) -> None:
    queue = Slow(waiting=150, slots=slots)
    async with serving(queue, longest=0.003):
        await until_ended(queue, 150, seconds=30)
