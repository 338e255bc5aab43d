"""The worker's heart: claim while there are free slots, keep leases alive, stop what is to be stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.ports import Claim, Endings, Facts, Fence, TaskQueue
from worker.attempt import Attempt
from worker.config import WorkerConfig
from worker.leaving import Leaving
from worker.metrics import Metrics
from worker.pacing import Pacing

log = logging.getLogger(__name__)

LONGEST_CLAIM_WAIT_SECONDS = 10.0
GRACE_SECONDS = 2.0
"""How long after its own deadline a stopping attempt is waited for before it is dropped."""


@dataclass(slots=True)
class Condition:
    """What a look at the worker shows.

    Attributes:
        database: whether the last call was answered.
        hints: whether hints arrive; without them the queue is only polled.
        draining: whether the worker is stopping.
        cut_off_seconds: how long no heartbeat has been answered, when that is longer than a lease; else 0.
    """

    database: bool = False
    hints: bool = False
    draining: bool = False
    cut_off_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Exchanged:
    """What one call brought and took: claimed tasks, written endings; when the next task is due."""

    tasks: int
    endings: int
    next_due_seconds: float | None


class Engine:
    """Runs attempts until `drain`.

    Args:
        store: where endings are written one by one when the database refuses several together.
        attempt_of: makes an `Attempt` for a claimed task; it ends in the `Endings` given.
        facts: what others shall know of this worker, now.
        metrics: counts claims and endings.
    """

    def __init__(
        self,
        *,
        config: WorkerConfig,
        queue: TaskQueue,
        store: Endings,
        attempt_of: Callable[[ClaimedTask, Endings], Attempt],
        facts: Callable[[], Facts],
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._config = config
        self._queue = queue
        self._attempt_of = attempt_of
        self._facts = facts
        self._running: dict[Fence, Attempt] = {}
        self._at_work: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._drain = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._more = asyncio.Event()
        self._turning = False
        self._asked_for = 0  # slots for which a claim is under way
        self._leaving = Leaving(store, self._ended, self._metrics.ended)
        along = queue.tells_along
        self._pacing = Pacing(
            longest=config.poll_seconds,
            seen=config.seen_seconds if along else config.seen_apart_seconds,
            along=along,
        )
        self._beaten = 0.0
        self.condition = Condition()

    @property
    def running(self) -> tuple[Fence, ...]:
        """The attempts at work."""
        return tuple(self._running)

    def wake(self, _payload: Mapping[str, Any] | None = None) -> None:
        """A hint that a task may be waiting."""
        self._pacing.hinted()
        self._wake.set()

    def _ended(self) -> None:
        self._wake.set()
        self._more.set()

    def back(self) -> None:
        """Hints arrive again; those of the time between are lost."""
        self.wake()
        self._beat_now.set()

    def cancel(self, payload: Mapping[str, Any]) -> None:
        """A hint that a task is to be cancelled; the next heartbeat would tell it too."""
        for fence, attempt in self._running.items():
            if (fence.task_id, fence.attempt) == (payload.get("task_id"), payload.get("attempt")):
                attempt.stop("cancel")

    def drain(self) -> None:
        """Claim no more, and give unfinished tasks back."""
        self.condition.draining = True
        self._drain.set()
        self._wake.set()

    async def serve(self) -> None:
        """Work until `drain` was called and every attempt has ended."""
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._beat(), name="heartbeat")
            draining = group.create_task(self._stop_when_drained(), name="drain")
            async with asyncio.TaskGroup() as attempts:
                helping = group.create_task(self._help(attempts), name="second turn")
                await self._turn(attempts)
            for task in (beating, draining, helping):
                task.cancel()
        await self._say_goodbye()

    async def _turn(self, attempts: asyncio.TaskGroup) -> None:
        """End what has ended and claim anew, again and again."""
        wait = 1.0
        recovered = False
        while self._running or self._leaving or not self._drain.is_set():
            self._wake.clear()
            free = self._free()
            pause = self._config.poll_seconds
            if free > 0 or self._leaving.unsent:
                try:
                    if not recovered:
                        await self._recover()
                        recovered = True
                    pause = await self._cycle(attempts, free)
                except (StoreUnavailableError, InvalidInputError) as error:
                    self.condition.database = False
                    self._metrics.claim_failed()
                    log.warning("claim not answered", extra={"action": "claim", "reason": str(error)})
                    if self._drain.is_set() and not self._running:
                        return  # what is not written by now is told by the end of the lease
                    await _within(1.0 if self._drain.is_set() else wait, self._wake)
                    wait = min(wait * 2, LONGEST_CLAIM_WAIT_SECONDS)
                    continue
                self.condition.database = True
                wait = 1.0
            await _within(pause, self._wake)

    async def _help(self, attempts: asyncio.TaskGroup) -> None:
        """Make a second turn beside the first, with what has ended and that one does not take.

        A turn is mostly waiting: for the database to work, and for its disk.
        """
        while True:
            await self._more.wait()
            self._more.clear()
            while self._turning and self._leaving.unsent:
                free = min(self._free(), self._leaving.unsent, self._share)
                try:
                    taken = await self._exchange(attempts, free, None)
                except (StoreUnavailableError, InvalidInputError) as error:
                    log.warning("second turn not answered", extra={"action": "claim", "reason": str(error)})
                    self._wake.set()  # the first turn takes care of it
                    break
                if taken is None or taken.tasks < free:
                    self._wake.set()  # the hint of a task that came meanwhile found no slot free

    @property
    def _share(self) -> int:
        """How many endings one turn takes, so that there is work for two."""
        return -(-self._config.slots // 2)

    def _free(self) -> int:
        if self._drain.is_set():
            return 0
        busy = len(self._running.keys() - self._leaving.waiting - self._leaving.left)
        return self._config.slots - busy - self._asked_for

    async def _recover(self) -> None:
        count = await self._queue.recover()
        log.info("recovered", extra={"action": "recovered", "tasks": count})

    async def _cycle(self, attempts: asyncio.TaskGroup, free: int) -> float:
        """Make one turn; returns the seconds until the next."""
        seen = self._news()
        # What the second turn takes is claimed for by it.
        free -= min(free, max(0, self._leaving.unsent - self._share))
        self._turning = True
        try:
            exchanged = await self._exchange(attempts, free, seen)
        finally:
            self._turning = False
        if exchanged is None:
            return 0.0
        if seen is not None:
            self._pacing.told(_now())
        if exchanged.tasks and exchanged.tasks == free:
            return 0.0
        return self._pacing.pause(
            found=bool(exchanged.tasks or exchanged.endings),
            hints=self.condition.hints,
            told=seen is not None,
            due=exchanged.next_due_seconds if free else None,
        )

    async def _exchange(
        self, attempts: asyncio.TaskGroup, free: int, seen: Facts | None
    ) -> _Exchanged | None:
        """Give endings for tasks; None when the endings had to be written one by one.

        Raises:
            StoreUnavailableError: the database does not answer.
            InvalidInputError: it refuses the call, which has no endings.
        """
        self._asked_for += free
        began = _now()
        try:
            with self._leaving.batch(self._share) as batch:
                if self._leaving.unsent:
                    self._more.set()
                try:
                    cycle = await self._queue.cycle(batch.endings, free, self._held(), seen)
                except InvalidInputError:
                    if not batch.endings:
                        raise
                    await batch.one_by_one()
                    return None
                batch.kept(cycle.kept)
        finally:
            self._asked_for -= free
        claim = cycle.claim
        count = len(claim.tasks) + len(claim.unreadable)
        self._metrics.claimed(_now() - began, count)
        self._take(attempts, claim)
        return _Exchanged(count, len(batch.endings), claim.next_due_seconds)

    def _held(self) -> list[Fence]:
        held = (self._running.keys() | self._leaving.waiting) - self._leaving.left
        return sorted(held, key=lambda fence: fence.task_id)

    def _take(self, attempts: asyncio.TaskGroup, claim: Claim) -> None:
        for task in claim.tasks:
            attempt = self._attempt_of(task, self._leaving)
            self._running[attempt.fence] = attempt
            if self._drain.is_set():
                attempt.stop("drain")
            log.info("task claimed", extra={"action": "claimed", "task_id": task.id, "attempt": task.attempt})
            working = attempts.create_task(self._work(attempt), name=f"attempt-{task.id}-{task.attempt}")
            self._at_work.add(working)
            working.add_done_callback(self._at_work.discard)
        for fence, problem in claim.unreadable:
            log.error(
                "task not readable", extra={"action": "refused", "task_id": fence.task_id, "reason": problem}
            )
            self._leaving.fail(
                fence,
                "This worker cannot read the task; it may be of another version than the database "
                f"({problem}).",
            )

    async def _work(self, attempt: Attempt) -> None:
        began = _now()
        try:
            await attempt.work()
        except Exception as broken:
            # A fault of ours must not take the other tasks of this worker with it.
            log.exception(
                "attempt broke",
                extra={
                    "action": "attempt_broke",
                    "task_id": attempt.task.id,
                    "attempt": attempt.task.attempt,
                },
            )
            self._leaving.fail(
                attempt.fence,
                f"The worker made a mistake ({type(broken).__name__}). Its log has the details.",
            )
        finally:
            self._metrics.ran(_now() - began)
            del self._running[attempt.fence]
            claimed_for = attempt.fence in self._leaving.left  # its slot was free in the turn that ended it
            self._leaving.gone(attempt.fence)
            if not claimed_for or self._drain.is_set():
                self._wake.set()

    async def _stop_when_drained(self) -> None:
        """Stop what runs, and drop what cannot end because the database does not answer."""
        await self._drain.wait()
        for attempt in self._running.values():
            attempt.stop("drain")
        await asyncio.sleep(self._config.drain_seconds + GRACE_SECONDS)
        while True:
            for working in self._at_work:
                if not working.cancelling():  # once: cleaning up must not be cut off
                    working.cancel()
            await asyncio.sleep(GRACE_SECONDS)  # a claim may have been on its way

    def _news(self) -> Facts | None:
        """What to tell of this worker with the next call, when it is time to."""
        return self._facts() if self._pacing.to_be_seen(_now()) else None

    async def _say_goodbye(self) -> None:
        """Tell that this worker has stopped; who does not hear it sees no more signs of life."""
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self._queue.seen(dict(self._facts()) | {"stopped": True})
        except (TimeoutError, StoreUnavailableError, InvalidInputError) as error:
            log.warning("not told that it stops", extra={"action": "stopped", "reason": str(error)})

    async def _beat(self) -> None:
        self._beaten = _now()
        while True:
            await _within(self._config.beat_seconds, self._beat_now)
            self._beat_now.clear()
            held = self.running
            if not held:
                self._answered()
                continue
            seen = self._news()
            try:
                statuses = await self._queue.heartbeat(held, seen)
            except (StoreUnavailableError, InvalidInputError) as error:
                self.condition.database = False
                log.warning("heartbeat not answered", extra={"action": "heartbeat", "reason": str(error)})
                self._unanswered(len(held))
                continue
            self._answered()
            self.condition.database = True
            if seen is not None:
                self._pacing.told(_now())
            for fence, status in statuses.items():
                attempt = self._running.get(fence)
                if attempt is not None and status != "ok":
                    attempt.stop(status)

    def _answered(self) -> None:
        if self.condition.cut_off_seconds:
            log.info("not cut off any more", extra={"action": "cut_off_end"})
        self._beaten, self.condition.cut_off_seconds = _now(), 0.0

    def _unanswered(self, held: int) -> None:
        """Say it when leases have ended.

        The runs go on: if nobody has taken their tasks, nothing is lost by a database that was away for a
        minute. What they write is fenced, and no request that may change something goes out before the
        database knows of it.
        """
        silent = _now() - self._beaten
        if silent <= self._config.lease_seconds:
            return
        if not self.condition.cut_off_seconds:
            log.warning(
                "cut off: the leases have ended, others may take the tasks",
                extra={"action": "cut_off", "tasks": held, "seconds": round(silent, 1)},
            )
        self.condition.cut_off_seconds = round(silent, 1)


async def _within(seconds: float, hint: asyncio.Event) -> None:
    """Wait for a hint, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await hint.wait()
    except TimeoutError:
        return


def _now() -> float:
    return asyncio.get_running_loop().time()
