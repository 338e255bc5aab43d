"""Random interleavings of several workers and people against a model of the queue.

`PYTHONIC_TEST_EXAMPLES=500 pytest tests/integration/test_queue_model.py` looks longer, and at other
interleavings each time.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from tests.embedded_fixtures import RunningSupabase

pytestmark = pytest.mark.timeout(3600)

EXAMPLES = int(os.environ.get("PYTHONIC_TEST_EXAMPLES", "0"))
WINDOW = 2
MAX_FAILURES = 3
WORKERS = 3
LABELS: tuple[tuple[str, ...], ...] = ((), ("gpu",), ("gpu", "office"))
"""What the workers have; tasks have one of them as well."""


@dataclass(slots=True)
class Modelled:
    """What the model knows of a task."""

    id: int
    person: int
    labels: tuple[str, ...]
    priority: int
    state: str
    attempt: int = 0
    failures: int = 0
    owner: int | None = None
    expired: bool = False
    due: bool = False
    cancelling: bool = False
    resumed: int | None = None
    failed_attempt: int | None = None

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")

    @property
    def place(self) -> tuple[int, int]:
        return (-self.priority, self.id)


class Model:
    """The queue as it should be."""

    def __init__(self) -> None:
        self.tasks: dict[int, Modelled] = {}

    def room(self, person: int) -> bool:
        return sum(task.active for task in self.tasks.values() if task.person == person) < WINDOW

    def admit(self, task: Modelled) -> None:
        task.state = "queued" if self.room(task.person) else "held"

    def promote(self) -> None:
        held = [task for task in self.tasks.values() if task.state == "held"]
        for task in sorted(held, key=lambda task: task.place):
            if self.room(task.person):
                task.state = "queued"

    def leave(self, task: Modelled, state: str) -> None:
        task.state, task.owner, task.expired = state, None, False
        if state not in ("scheduled", "queued"):
            task.due = False
        self.promote()

    def take_back(self, lost: list[Modelled]) -> None:
        for task in lost:
            task.failures += 1
            task.owner, task.expired = None, False
            if task.cancelling:
                task.state = "cancelled"
            elif task.failures >= MAX_FAILURES:
                task.state, task.failed_attempt = "failed", None
            else:
                task.state = "queued"
        self.promote()

    def upkeep(self) -> None:
        self.take_back([task for task in self.tasks.values() if task.expired])
        due = [task for task in self.tasks.values() if task.state == "scheduled" and task.due]
        for task in sorted(due, key=lambda task: task.place):
            task.due = False
            self.admit(task)

    def claim(self, worker: int, most: int) -> list[Modelled]:
        ready = [
            task
            for task in self.tasks.values()
            if task.state == "queued" and set(task.labels) <= set(LABELS[worker])
        ]
        taken = sorted(ready, key=lambda task: task.place)[:most]
        for task in taken:
            task.state, task.owner, task.attempt = "running", worker, task.attempt + 1
        return taken

    def end(self, how: str, task: Modelled, worker: int, attempt: int) -> bool:
        """One ending; returns whether it is kept."""
        if task.owner != worker or task.attempt != attempt:
            if task.attempt != attempt:
                return False
            repeats = {
                "finish": task.state == "succeeded",
                "wait": task.state == "waiting",
                "fail": task.state in ("scheduled", "failed") and task.failed_attempt == attempt,
            }
            return repeats.get(how.split()[0], False)
        match how:
            case "finish":
                self.leave(task, "succeeded")
            case "release" if not task.cancelling:
                self.leave(task, "queued")
            case "cancel" if task.cancelling:
                self.leave(task, "cancelled")
            case "wait":
                resumed, task.resumed = task.resumed == attempt, None
                self.leave(task, "cancelled" if task.cancelling else "queued" if resumed else "waiting")
            case "fail again" | "fail for good":
                task.failures += 1
                again = how == "fail again" and task.failures < MAX_FAILURES
                task.failed_attempt = attempt
                self.leave(task, "cancelled" if task.cancelling else "scheduled" if again else "failed")
            case _:
                return False
        return True


HOW = st.sampled_from(["finish", "finish", "fail again", "fail for good", "release", "cancel", "wait"])
WORKER = st.integers(0, WORKERS - 1)


class QueueMachine(RuleBasedStateMachine):
    """What people and workers do, in any order; after each step the rows are those of the model."""

    url = ""
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.workers = [uuid4() for _ in range(WORKERS)]
        self.claimed: list[tuple[int, int, int]] = []
        """Every claim there was: worker, task, attempt. Some are lost, and their workers do not know."""

    @initialize()
    def begin(self) -> None:
        self.connection: asyncpg.Connection[Any] = self.runner.run(asyncpg.connect(self.url))
        self.queue = f"m-{uuid4()}"
        self.people = [uuid4(), uuid4()]
        for person in self.people:
            self.value("insert into auth.users (id, email) values ($1, $2)", person, f"{person}@example.com")
        self.value("update public.profiles set active_limit = $2 where id = any($1)", self.people, WINDOW)

    def value(self, query: str, *arguments: Any) -> Any:
        return self.runner.run(self.connection.fetchval(query, *arguments))

    def teardown(self) -> None:
        if hasattr(self, "connection"):
            self.value("select setval('pythonic.upkeep_clock', 1)")
            self.value("delete from auth.users where id = any($1)", self.people)
            self.runner.run(self.connection.close())

    def some(self, data: st.DataObject) -> Modelled:
        return self.model.tasks[data.draw(st.sampled_from(sorted(self.model.tasks)), "task")]

    def has_tasks(self) -> bool:
        return bool(self.model.tasks)

    def has_claims(self) -> bool:
        return bool(self.claimed)

    @rule(person=st.integers(0, 1), labels=st.sampled_from(LABELS), priority=st.integers(-1, 1))
    def enqueue(self, person: int, labels: tuple[str, ...], priority: int) -> None:
        task = self.value(
            """insert into public.tasks (user_id, prompt, queue, labels, priority)
            values ($1, 'x', $2, $3, $4) returning id""",
            self.people[person],
            self.queue,
            list(labels),
            priority,
        )
        added = Modelled(task, person, labels, priority, "")
        self.model.admit(added)
        self.model.tasks[task] = added

    def took(self, worker: int, most: int, said: list[dict[str, Any]]) -> None:
        taken = self.model.claim(worker, most)
        assert [(task["id"], task["attempt"]) for task in said] == [(task.id, task.attempt) for task in taken]
        self.claimed.extend((worker, task.id, task.attempt) for task in taken)

    @rule(worker=WORKER, most=st.integers(0, 3))
    def claim(self, worker: int, most: int) -> None:
        said = self.value(
            "select public.claim_tasks($1, $2, $3, 300, '[]', $4)",
            self.workers[worker],
            self.queue,
            most,
            list(LABELS[worker]),
        )
        self.model.upkeep()
        self.took(worker, most, json.loads(said)["tasks"])

    @precondition(has_claims)
    @rule(data=st.data(), most=st.integers(0, 2), upkeep=st.booleans())
    def cycle(self, data: st.DataObject, most: int, upkeep: bool) -> None:
        worker = data.draw(st.sampled_from(self.claimed), "whose")[0]
        mine = sorted({claim for claim in self.claimed if claim[0] == worker})
        chosen = data.draw(st.lists(st.sampled_from(mine), min_size=1, max_size=3, unique_by=lambda c: c[1]))
        endings = [(data.draw(HOW), task, attempt) for _, task, attempt in chosen]
        # Busy workers do upkeep by the clock, which is drawn here.
        self.value("select setval('pythonic.upkeep_clock', $1)", 1 if upkeep else 2**60)
        said = json.loads(
            self.value(
                "select public.cycle_tasks($1, $2, $3, 300, '[]', $4, $5)",
                self.workers[worker],
                self.queue,
                most,
                list(LABELS[worker]),
                json.dumps([self.ending(how, task, attempt) for how, task, attempt in endings]),
            )
        )
        kept = {item["id"]: item["kept"] for item in said["ended"]}
        for how, task, attempt in sorted(endings, key=lambda ending: ending[0] == "finish"):
            assert kept[task] == self.model.end(how, self.model.tasks[task], worker, attempt), (how, task)
        if upkeep:
            self.model.upkeep()
        self.took(worker, most, said["tasks"])

    @staticmethod
    def ending(how: str, task: int, attempt: int) -> dict[str, Any]:
        return {
            "how": how.split()[0], "id": task, "attempt": attempt, "answer": "a", "verdict": "unverified",
            "error": "it broke", "retryable": how == "fail again", "reason": "a word",
        }  # fmt: skip

    @precondition(has_claims)
    @rule(data=st.data(), how=HOW)
    def end(self, data: st.DataObject, how: str) -> None:
        worker, task, attempt = data.draw(st.sampled_from(self.claimed), "whose")
        calls = {
            "finish": "finish_task($1, $2, $3, 'a', 'unverified', '[]', '{}')",
            "fail again": "fail_task($1, $2, $3, 'it broke', true, '[]', '{}')",
            "fail for good": "fail_task($1, $2, $3, 'it broke', false, '[]', '{}')",
            "release": "release_task($1, $2, $3)",
            "cancel": "confirm_cancel($1, $2, $3)",
            "wait": "wait_task($1, $2, $3, 'a word')",
        }
        kept = self.value(f"select public.{calls[how]}", self.workers[worker], task, attempt)
        assert kept == self.model.end(how, self.model.tasks[task], worker, attempt)

    @precondition(has_claims)
    @rule(worker=WORKER)
    def heartbeat(self, worker: int) -> None:
        mine = sorted({(task, attempt) for by, task, attempt in self.claimed if by == worker})
        beats = json.dumps([{"id": task, "attempt": attempt} for task, attempt in mine])
        said = json.loads(
            self.value("select public.heartbeat_tasks($1, $2, 300)", self.workers[worker], beats)
        )
        for beat in said:
            task = self.model.tasks[beat["id"]]
            if task.owner == worker and task.attempt == beat["attempt"]:
                assert beat["status"] == ("cancel" if task.cancelling else "ok")
                task.expired = False
            else:
                assert beat["status"] == "lost"

    @precondition(has_tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task = self.some(data)
        said = self.value("select public.cancel_task($1)", task.id)
        if task.state == "running":
            task.cancelling = True
            assert said == "cancelling"
        elif task.state not in ("succeeded", "failed", "cancelled"):
            self.model.leave(task, "cancelled")
            assert said == "cancelled"

    @precondition(has_tasks)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        task = self.some(data)
        if task.state not in ("succeeded", "failed", "cancelled"):
            with pytest.raises(asyncpg.InvalidParameterValueError):
                self.value("select public.retry_task($1)", task.id)
            return
        said = self.value("select public.retry_task($1)", task.id)
        task.failures, task.cancelling, task.resumed, task.failed_attempt = 0, False, None, None
        self.model.admit(task)
        assert said == task.state

    @precondition(has_tasks)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        task = self.some(data)
        said = self.value("select pythonic.resume_task($1)", task.id)
        if task.state == "running":
            task.resumed = task.attempt
        elif task.state == "waiting":
            self.model.admit(task)
        assert said == task.state

    @precondition(has_claims)
    @rule()
    def leases_end(self) -> None:
        self.value(
            """update public.tasks set lease_until = now() - interval '1 s'
            where queue = $1 and state = 'running'""",
            self.queue,
        )
        for task in self.model.tasks.values():
            task.expired = task.state == "running"

    @precondition(has_tasks)
    @rule()
    def time_passes(self) -> None:
        self.value(
            "update public.tasks set run_at = now() where queue = $1 and state = 'scheduled'", self.queue
        )
        for task in self.model.tasks.values():
            task.due = task.state == "scheduled"

    @precondition(has_claims)
    @rule(worker=WORKER)
    def restart(self, worker: int) -> None:
        held = [task for task in self.model.tasks.values() if task.owner == worker]
        assert self.value("select public.recover_tasks($1)", self.workers[worker]) == len(held)
        self.model.take_back(held)

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        if not hasattr(self, "connection"):
            return
        rows = self.runner.run(
            self.connection.fetch(
                """select id, state, attempt, failures, worker_id, held_because is null as free
                from public.tasks where queue = $1""",
                self.queue,
            )
        )
        assert {row["id"] for row in rows} == set(self.model.tasks), "a task is lost"
        for row in rows:
            task = self.model.tasks[row["id"]]
            owner: UUID | None = None if task.owner is None else self.workers[task.owner]
            assert (row["state"], row["attempt"], row["failures"], row["worker_id"]) == (
                task.state,
                task.attempt,
                task.failures,
                owner,
            ), task
            assert row["free"] == (task.state != "held")
        for person in range(2):
            active = sum(task.active for task in self.model.tasks.values() if task.person == person)
            assert active <= WINDOW


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_the_queue_is_as_its_model_whatever_happens(
    embedded_supabase: RunningSupabase, runner: asyncio.Runner
) -> None:
    class Here(QueueMachine):
        pass

    Here.url, Here.runner = embedded_supabase.database_url, runner
    run_machine(
        Here,
        settings=settings(
            max_examples=EXAMPLES or 12,
            stateful_step_count=40,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
