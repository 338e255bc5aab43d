"""The queue's database functions, called by name; how a call travels is the concern of each adapter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, assert_never
from uuid import UUID

from pythonic_assistant.adapters.store.calls import DEADLINE_SECONDS
from pythonic_assistant.adapters.store.rows import read_claim, read_cycle
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.ending import Cancelled, Ending, Failed, Finished, Released, Waiting
from pythonic_assistant.domain.errors import EventsForgottenError
from pythonic_assistant.ports import Claim, Cycle, Facts, Fence, LeaseStatus


@dataclass(frozen=True, slots=True)
class Json:
    """An argument that the function takes as jsonb."""

    value: Any


Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function of the schema `public`, with its arguments by name."""

    function: str
    arguments: Arguments


class QueueFunctions(ABC):
    """`ports.TaskQueue`, `ports.Endings` and `ports.RunJournal` of one worker.

    Args:
        worker: this worker's id, part of every fence.
        lease_seconds: how long a claim holds without a heartbeat.
        queue: the name of the queue.
        labels: what this worker offers; it is given no task that asks for more.
    """

    def __init__(
        self, *, worker: UUID, lease_seconds: float, queue: str = "default", labels: Sequence[str] = ()
    ) -> None:
        self.worker = worker
        self.queue = queue
        self._lease_seconds = lease_seconds
        self._labels = sorted(set(labels))

    @property
    @abstractmethod
    def tells_along(self) -> bool:
        """As `ports.TaskQueue.tells_along`."""
        ...

    @abstractmethod
    async def close(self) -> None:
        """End what this adapter has opened itself."""
        ...

    @abstractmethod
    async def _ask(self, calls: Sequence[Call], deadline: float) -> list[Any]:
        """Call functions, in one go where the way allows it; returns what each returned.

        Raises:
            StoreUnavailableError: no answer, or one that may be another later.
            InvalidInputError: the database refuses the values.
        """
        ...

    async def claim(self, most: int, held: Sequence[Fence]) -> Claim:
        """Claim up to `most` tasks and end none; as `ports.TaskQueue.cycle` otherwise."""
        (found,) = await self._ask([self._call("claim_tasks", **self._claim(most, held))], DEADLINE_SECONDS)
        return read_claim(found)

    async def cycle(
        self, ended: Sequence[Ending], most: int, held: Sequence[Fence], seen: Facts | None = None
    ) -> Cycle:
        """As `ports.TaskQueue.cycle`."""
        arguments = self._claim(most, held) | {"ended": Json([row_of(ending) for ending in ended])}
        # Last: where calls are apart, a failure after it would hide tasks that were claimed.
        calls = [*self._seen(seen), self._call("cycle_tasks", **arguments)]
        return read_cycle((await self._ask(calls, DEADLINE_SECONDS))[-1])

    async def recover(self) -> int:
        """As `ports.TaskQueue.recover`."""
        (count,) = await self._ask([self._call("recover_tasks")], DEADLINE_SECONDS)
        return int(count)

    async def heartbeat(
        self, held: Sequence[Fence], seen: Facts | None = None
    ) -> Mapping[Fence, LeaseStatus]:
        """As `ports.TaskQueue.heartbeat`."""
        tasks = [{"id": fence.task_id, "attempt": fence.attempt} for fence in held]
        beat = self._call("heartbeat_tasks", tasks=Json(tasks), lease_seconds=self._lease_seconds)
        # A dead connection must not use up the lease that this call renews.
        rows = (await self._ask([*self._seen(seen), beat], self._lease_seconds / 4))[-1]
        return {Fence(row["id"], row["attempt"]): row["status"] for row in rows}

    async def seen(self, facts: Facts) -> None:
        """As `ports.TaskQueue.seen`."""
        await self._ask(self._seen(facts), DEADLINE_SECONDS)

    async def append(
        self, fence: Fence, events: Sequence[Mapping[str, Any]], after: int | None = None
    ) -> bool:
        """As `ports.RunJournal.append`."""
        append = self._call(
            "append_events",
            task_id=fence.task_id,
            attempt=fence.attempt,
            events=Json(list(events)),
            after=after,
        )
        (stored,) = await self._ask([append], DEADLINE_SECONDS)
        if stored is None:
            raise EventsForgottenError(
                f"Event {after} of task {fence.task_id} is not in the database any more."
            )
        return bool(stored)

    async def end(self, ending: Ending) -> bool:
        """As `ports.Endings.end`."""
        call = self._call(
            _FUNCTIONS[ending.kind], task_id=ending.task_id, attempt=ending.attempt, **_values(ending)
        )
        return bool((await self._ask([call], DEADLINE_SECONDS))[0])

    async def begin_effect(self, fence: Fence, effect: Mapping[str, Any]) -> Mapping[str, Any]:
        """As `ports.EffectStore.begin_effect`."""
        return await self._of_effect("begin_effect", fence, effect=Json(dict(effect)))

    async def ask_outcome(self, fence: Fence, key: str, preview: Mapping[str, Any]) -> Mapping[str, Any]:
        """As `ports.EffectStore.ask_outcome`."""
        return await self._of_effect("ask_outcome", fence, effect_key=key, preview=Json(dict(preview)))

    async def end_effect(
        self, fence: Fence, key: str, state: str, *, result: Any = None, error: str | None = None
    ) -> bool:
        """As `ports.EffectStore.end_effect`."""
        return bool(
            await self._of_effect(
                "end_effect", fence, effect_key=key, state=state, result=Json(result), error=error
            )
        )

    async def expire_approvals(self) -> int:
        """Let tasks go on about which nobody decided in time; returns how many."""
        (count,) = await self._ask([Call("expire_approvals", {})], DEADLINE_SECONDS)
        return int(count)

    async def _of_effect(self, function: str, fence: Fence, **arguments: Any) -> Any:
        call = self._call(function, task_id=fence.task_id, attempt=fence.attempt, **arguments)
        return (await self._ask([call], DEADLINE_SECONDS))[0]

    def _claim(self, most: int, held: Sequence[Fence]) -> dict[str, Any]:
        return {
            "queue": self.queue,
            "most": most,
            "lease_seconds": self._lease_seconds,
            "held": Json([fence.task_id for fence in held]),
            "labels": self._labels,
        }

    def _seen(self, facts: Facts | None) -> list[Call]:
        return [] if facts is None else [self._call("worker_seen", facts=Json(dict(facts)))]

    def _call(self, function: str, **arguments: Any) -> Call:
        return Call(function, {"worker": str(self.worker), **arguments})


_FUNCTIONS = {
    "finish": "finish_task",
    "fail": "fail_task",
    "release": "release_task",
    "cancel": "confirm_cancel",
    "wait": "wait_task",
}

_USAGE_FIELDS = tuple(field.name for field in fields(Usage))


def _usage(usage: Usage) -> dict[str, Any]:
    """Its fields; `asdict` would copy each number, which costs more than all the rest of an ending."""
    return {name: getattr(usage, name) for name in _USAGE_FIELDS}


def _values(ending: Ending) -> dict[str, Any]:
    """The arguments of an ending's function besides worker and fence."""
    match ending:
        case Finished():
            return {
                "answer": ending.answer,
                "verdict": ending.verdict.kind,
                "evidence": Json([asdict(item) for item in ending.verdict.evidence]),
                "usage": Json(_usage(ending.usage)),
            }
        case Failed():
            return {
                "error": ending.error,
                "retryable": ending.retryable,
                "evidence": Json([asdict(item) for item in ending.evidence]),
                "usage": Json(_usage(ending.usage)),
            }
        case Waiting():
            return {"reason": ending.reason, "usage": Json(_usage(ending.usage))}
        case Released() | Cancelled():
            return {}
        case _:
            assert_never(ending)


def row_of(ending: Ending) -> dict[str, Any]:
    """An ending as `cycle_tasks` takes it."""
    values = {
        name: value.value if isinstance(value, Json) else value for name, value in _values(ending).items()
    }
    return {"how": ending.kind, "id": ending.task_id, "attempt": ending.attempt, **values}
