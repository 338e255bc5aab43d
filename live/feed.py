"""What the page knows of one person's tasks: kept current by the event loop, read by any thread.

Every part that can change has a channel with a number that grows with each change: `task:<id>`,
`thread:<id>` (which tasks it has), `threads` (the list of conversations), `rules` (what they deliver),
`approvals` (what waits for the person) and `status` (connection and workers). A reader takes the number first
and the content second, so it never misses a change.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from live.desk import Position
from live.rows import ArtifactRow, EventRow, TaskRow, Worker
from live.wording import UNAVAILABLE, UNSAFE, announcement, asked_announcement
from pythonic_assistant.domain.decision import Approval

_FAILURES_KEPT = 20
ConnectionState = Literal["connecting", "connected", "lost"]
STATUS, THREADS, RULES, APPROVALS = "status", "threads", "rules", "approvals"

# Begins at the clock, so that numbers of a page that was restarted are larger than those it gave before.
_numbers = itertools.count(time.time_ns() // 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """A task as it is known now. `events` and `approvals` are in order; `number` is that of its channel."""

    row: TaskRow
    events: tuple[EventRow, ...]
    artifacts: tuple[ArtifactRow, ...]
    approvals: tuple[Approval, ...]
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What listeners are told: a channel's new number, or a sentence to be read out; neither at the end."""

    channel: str = ""
    number: int = 0
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A task that failed while the page was open; `number` grows from one to the next."""

    number: int
    task_id: int
    thread_id: str | None


class _Record:
    __slots__ = ("approvals", "artifacts", "events", "ordered", "row")

    def __init__(self, row: TaskRow) -> None:
        self.row = row
        self.events: dict[Position, EventRow] = {}
        self.ordered: tuple[EventRow, ...] | None = ()
        self.artifacts: tuple[ArtifactRow, ...] = ()
        self.approvals: tuple[Approval, ...] = ()


class Feed:
    """One person's tasks, workers and connection. Changed on the event loop only.

    `waiting` is what waits for the person over all threads, newest first; None until it is known.
    """

    def __init__(self) -> None:
        self.workers: tuple[Worker, ...] = ()
        self.connection: ConnectionState = "connecting"
        self.ended = False
        self.waiting: tuple[Approval, ...] | None = None
        self.failures: tuple[Failure, ...] = ()
        self._records: dict[int, _Record] = {}
        self._numbers: dict[str, int] = {}
        self._listeners: set[Callable[[Change], None]] = set()

    # Reading

    def number(self, channel: str) -> int:
        """The number of a channel's latest change; 0 when there was none."""
        return self._numbers.get(channel, 0)

    def latest(self) -> int:
        """The number of the latest change of any channel: whatever is read from now on holds it."""
        return max(self.numbers().values(), default=0)

    def numbers(self) -> Mapping[str, int]:
        """The numbers of all channels that ever changed."""
        return dict(self._numbers)

    def task(self, task_id: int) -> TaskView | None:
        """A task that is followed; None when it is not."""
        number = self.number(f"task:{task_id}")
        record = self._records.get(task_id)
        if record is None:
            return None
        ordered = record.ordered
        if ordered is None:
            events = dict(record.events)
            ordered = tuple(events[position] for position in sorted(events))
            if len(events) == len(record.events):
                record.ordered = ordered
        return TaskView(
            row=record.row,
            events=ordered,
            artifacts=record.artifacts,
            approvals=record.approvals,
            number=number,
        )

    def followed(self) -> tuple[TaskRow, ...]:
        """The rows of all tasks that are followed."""
        return tuple(record.row for record in list(self._records.values()))

    def model_configured(self) -> bool:
        """Whether a worker that is online has a model."""
        return any(worker.model for worker in self.workers)

    def can_run(self) -> bool:
        """Whether a worker that is online runs code at all."""
        return any(worker.sandbox != UNAVAILABLE for worker in self.workers)

    def serves(self, labels: Collection[str]) -> bool:
        """Whether a worker that is online may take a task with these labels."""
        return any(set(labels) <= set(worker.labels) for worker in self.workers)

    def has_unsafe(self) -> bool:
        """Whether a worker that is online runs code without walls."""
        return any(worker.sandbox == UNSAFE for worker in self.workers)

    # Listening

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call this on the event loop with every change; returns what ends it."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def touch(self, channel: str) -> None:
        """Say that something of this channel has changed."""
        number = next(_numbers)
        self._numbers[channel] = number
        self._tell(Change(channel=channel, number=number))

    def end(self) -> None:
        """Say that nothing will change here any more: whoever listens has to go to the person's next feed."""
        self.ended = True
        self._tell(Change())

    # Writing

    def put_failure(self, task_id: int, thread_id: str | None) -> None:
        """A task has failed for good: people are told wherever they are."""
        failure = Failure(number=next(_numbers), task_id=task_id, thread_id=thread_id)
        self.failures = (*self.failures[-(_FAILURES_KEPT - 1) :], failure)

    def put_task(self, row: TaskRow) -> None:
        """Follow a task, or take its newer row."""
        record = self._records.get(row.id)
        if record is None:
            self._records[row.id] = _Record(row)
        else:
            if record.row == row:
                return
            # Two readings may overtake each other on the way.
            if row.attempt < record.row.attempt:
                return
            self._say(record.row, row)
            record.row = row
        self.touch(f"task:{row.id}")
        self.touch(THREADS)

    def hint(self, task_id: int, *, state: str, attempt: int, verdict: str | None, cancelling: bool) -> None:
        """Show a broadcast change of state at once; the whole row follows."""
        record = self._records.get(task_id)
        if record is None or attempt < record.row.attempt:
            return
        # What an ended task shows comes with its row; showing half of it would flicker.
        if state in ("succeeded", "failed"):
            return
        changed = replace(record.row, state=state, attempt=attempt, verdict=verdict, cancelling=cancelling)
        if changed != record.row:
            self._say(record.row, changed)
            record.row = changed
            self.touch(f"task:{task_id}")
            self.touch(THREADS)

    def put_events(self, task_id: int, events: Iterable[EventRow]) -> bool:
        """Add events; returns whether none is missing before the last one known."""
        record = self._records.get(task_id)
        if record is None:
            return True
        before = len(record.events)
        for event in events:
            record.events.setdefault((event.attempt, event.seq), event)
        if len(record.events) != before:
            record.ordered = None
            self.touch(f"task:{task_id}")
        return self.last_contiguous(task_id) == max(record.events, default=(0, 0))

    def last_contiguous(self, task_id: int) -> Position:
        """The last event before the first gap. Later attempts count only once earlier ones have no gap."""
        record = self._records.get(task_id)
        position = (0, 0)
        for attempt, seq in sorted(record.events) if record else ():
            expected = position[1] + 1 if attempt == position[0] else 1
            if seq != expected:
                break
            position = (attempt, seq)
        return position

    def put_artifacts(self, task_id: int, artifacts: tuple[ArtifactRow, ...]) -> None:
        """Take the artifacts of a task."""
        record = self._records.get(task_id)
        if record is not None and record.artifacts != artifacts:
            record.artifacts = artifacts
            self.touch(f"task:{task_id}")

    def put_approvals(self, task_id: int, approvals: tuple[Approval, ...]) -> None:
        """Take what was asked for a task."""
        record = self._records.get(task_id)
        if record is not None and record.approvals != approvals:
            record.approvals = approvals
            self.touch(f"task:{task_id}")

    def set_waiting(self, waiting: tuple[Approval, ...]) -> None:
        """Take what waits for the person; what is new is read out."""
        if waiting == self.waiting:
            return
        known = None if self.waiting is None else {one.id for one in self.waiting}
        self.waiting = waiting
        self.touch(APPROVALS)
        for one in waiting:
            if known is not None and one.id not in known:
                self._tell(Change(sentence=asked_announcement(one)))

    def forget(self, task_id: int) -> None:
        """Stop following a task."""
        self._records.pop(task_id, None)

    def set_workers(self, workers: tuple[Worker, ...]) -> None:
        """Take who is online."""
        if workers != self.workers:
            self.workers = workers
            self.touch(STATUS)

    def set_connection(self, state: ConnectionState) -> None:
        """Take whether changes come in."""
        if state != self.connection:
            lost_or_back = "lost" in (state, self.connection)
            self.connection = state
            self.touch(STATUS)
            if lost_or_back:
                words = "Connection lost, reconnecting." if state == "lost" else "Connected again."
                self._tell(Change(sentence=words))

    def _say(self, old: TaskRow, new: TaskRow) -> None:
        words = announcement(old, new)
        if words:
            self._tell(Change(sentence=words))

    def _tell(self, change: Change) -> None:
        for listener in tuple(self._listeners):
            listener(change)


def worker_list(
    state: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Worker | None]
) -> tuple[Worker, ...]:
    """The workers of a Presence state, each once, in a steady order."""
    found: dict[str, Worker] = {}
    for metas in state.values():
        for meta in metas:
            worker = read(meta)
            if worker is not None:
                found[worker.id] = worker
    return tuple(found[name] for name in sorted(found))
