"""The worker's heart: claim while there are free slots, keep leases alive, stop what is to be stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.ports import Fence, RunJournal, TaskQueue
from worker.attempt import Attempt
from worker.config import WorkerConfig

log = logging.getLogger(__name__)

LONGEST_CLAIM_WAIT_SECONDS = 10.0
GRACE_SECONDS = 2.0
"""How long after its own deadline a stopping attempt is waited for before it is dropped."""


@dataclass(slots=True)
class Condition:
    """What a look at the worker shows.

    Attributes:
        database: whether the last call was answered.
        realtime: whether hints arrive; without them claims are only polled.
        draining: whether the worker is stopping.
    """

    database: bool = False
    realtime: bool = False
    draining: bool = False


class Engine:
    """Runs attempts until `drain`.

    Args:
        attempt_of: makes an `Attempt` for a claimed task.
    """

    def __init__(
        self,
        *,
        config: WorkerConfig,
        queue: TaskQueue,
        journal: RunJournal,
        attempt_of: Callable[[ClaimedTask], Attempt],
    ) -> None:
        self._config = config
        self._queue = queue
        self._journal = journal
        self._attempt_of = attempt_of
        self._running: dict[Fence, Attempt] = {}
        self._wake = asyncio.Event()
        self._drain = asyncio.Event()
        self.condition = Condition()

    @property
    def running(self) -> tuple[Fence, ...]:
        """The attempts at work."""
        return tuple(self._running)

    def wake(self, _payload: Mapping[str, Any] | None = None) -> None:
        """A hint that a task may be waiting."""
        self._wake.set()

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
            async with asyncio.TaskGroup() as attempts:
                await self._claim(attempts)
                for attempt in self._running.values():
                    attempt.stop("drain")
            beating.cancel()

    async def _claim(self, attempts: asyncio.TaskGroup) -> None:
        wait = 1.0
        recovered = False
        while not self._drain.is_set():
            self._wake.clear()
            free = self._config.slots - len(self._running)
            due: float | None = None
            if free > 0:
                try:
                    if not recovered:
                        count = await self._queue.recover()
                        recovered = True
                        log.info("recovered", extra={"action": "recovered", "tasks": count})
                    claim = await self._queue.claim(free, self.running)
                except (StoreUnavailableError, InvalidInputError) as error:
                    self.condition.database = False
                    log.warning("claim not answered", extra={"action": "claim", "reason": str(error)})
                    await self._sleep(wait)
                    wait = min(wait * 2, LONGEST_CLAIM_WAIT_SECONDS)
                    continue
                self.condition.database = True
                wait = 1.0
                for task in claim.tasks:
                    self._launch(attempts, task)
                for fence, problem in claim.unreadable:
                    await self._refuse(fence, problem)
                if len(claim.tasks) + len(claim.unreadable) == free:
                    continue
                due = claim.next_due_seconds
            await self._sleep(max(0.01, min(self._config.poll_seconds, due or self._config.poll_seconds)))

    def _launch(self, attempts: asyncio.TaskGroup, task: ClaimedTask) -> None:
        attempt = self._attempt_of(task)
        self._running[attempt.fence] = attempt
        log.info("task claimed", extra={"action": "claimed", "task_id": task.id, "attempt": task.attempt})
        attempts.create_task(self._work(attempt), name=f"attempt-{task.id}-{task.attempt}")

    async def _work(self, attempt: Attempt) -> None:
        try:
            async with asyncio.TaskGroup() as watched:
                working = watched.create_task(attempt.work())
                watched.create_task(self._drop_when_drained(working))
        except* Exception as broken:
            # A fault of ours must not take the other tasks of this worker with it.
            log.exception(
                "attempt broke",
                exc_info=broken,
                extra={
                    "action": "attempt_broke",
                    "task_id": attempt.task.id,
                    "attempt": attempt.task.attempt,
                },
            )
            await self._give_up(attempt.fence, broken)
        finally:
            del self._running[attempt.fence]
            self._wake.set()

    async def _drop_when_drained(self, working: asyncio.Task[None]) -> None:
        """Bound the wait for an attempt that cannot end because the database does not answer."""
        draining = asyncio.create_task(self._drain.wait(), name="drain-watch")
        try:
            await asyncio.wait({working, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await asyncio.wait({working}, timeout=self._config.drain_seconds + GRACE_SECONDS)
                working.cancel()
        finally:
            draining.cancel()

    async def _refuse(self, fence: Fence, problem: str) -> None:
        log.error(
            "task not readable", extra={"action": "refused", "task_id": fence.task_id, "reason": problem}
        )
        await self._fail(
            fence,
            f"This worker cannot read the task; it may be of another version than the database ({problem}).",
        )

    async def _give_up(self, fence: Fence, broken: BaseExceptionGroup[Exception]) -> None:
        cause = broken.exceptions[0]
        await self._fail(
            fence, f"The worker made a mistake ({type(cause).__name__}). Its log has the details."
        )

    async def _fail(self, fence: Fence, error: str) -> None:
        try:
            await self._journal.fail(fence, error=error, retryable=True, evidence=(), usage=Usage())
        except (StoreUnavailableError, InvalidInputError) as refused:
            log.warning(
                "failure not written; the lease will end",
                extra={"action": "give_up", "task_id": fence.task_id, "reason": str(refused)},
            )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._config.beat_seconds)
            held = self.running
            if not held:
                continue
            try:
                statuses = await self._queue.heartbeat(held)
            except (StoreUnavailableError, InvalidInputError) as error:
                self.condition.database = False
                log.warning("heartbeat not answered", extra={"action": "heartbeat", "reason": str(error)})
                continue
            self.condition.database = True
            for fence, status in statuses.items():
                attempt = self._running.get(fence)
                if attempt is not None and status != "ok":
                    attempt.stop(status)

    async def _sleep(self, seconds: float) -> None:
        """Wait for a hint, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
