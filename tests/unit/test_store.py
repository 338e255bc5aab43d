"""What the database returns, as values; what its client raises, as errors of the project."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError

from pythonic_assistant.adapters.store.calls import call, in_words
from pythonic_assistant.adapters.store.rows import read_claim
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Recorded, Said
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError
from pythonic_assistant.ports import Fence

TASK: dict[str, Any] = {
    "id": 7,
    "attempt": 2,
    "user_id": "u",
    "kind": "task",
    "prompt": "do it",
    "thread_id": "t",
    "model": None,
    "instructions": "",
    "inputs": [{"name": "a.csv", "storage_path": "u/a", "media_type": "text/csv", "bytes": 3}],
    "lease_until": "2026-11-20T12:00:00+00:00",
    "steps": [],
    "history": [{"role": "user", "content": "hi"}],
    "hosts": ["api.github.com"],
    "limits": {"memory_bytes": 1 << 30},
    "tools": ["earlier_tasks"],
    "saved": [
        {
            "name": "frame",
            "type": "pandas.DataFrame",
            "shape": "2 x 3",
            "bytes": 9,
            "media_type": "application/vnd.apache.parquet",
            "load": "pandas.read_parquet({path!r})",
            "storage_path": "u/variables/t/frame.parquet",
        }
    ],
    "items": [{"item": {"kind": "said", "text": "hello"}, "data": None}],
    "spent": {"turns": 2, "input_tokens": 7, "output_tokens": 3, "cost": None},
}


def step(name: str, state: str, code: str | None) -> dict[str, Any]:
    text = {"title": name, "goal": name, "proof": ""}
    return {"step_id": name, **text, "depends_on": [], "state": state, "code": code, "output": None}


def test_a_task_without_steps_starts_from_the_beginning() -> None:
    claim = read_claim({"tasks": [TASK], "next_due_seconds": 1.5})
    (task,) = claim.tasks
    assert (task.id, task.attempt, task.resume) == (7, 2, None)
    assert task.inputs[0].storage_path == "u/a"
    assert claim.next_due_seconds == 1.5


def test_what_a_task_may_reach_comes_with_it() -> None:
    (task,) = read_claim({"tasks": [TASK], "next_due_seconds": None}).tasks
    assert (task.hosts, task.limits, task.tools) == (
        ("api.github.com",),
        {"memory_bytes": 1 << 30},
        ("earlier_tasks",),
    )
    assert task.recorded == (Recorded(item=Said(text="hello")),)
    assert task.spent == Usage(turns=2, input_tokens=7, output_tokens=3)
    assert [(item.name, item.storage_path) for item in task.saved] == [
        ("frame", "u/variables/t/frame.parquet")
    ]


def test_finished_steps_come_with_the_plan() -> None:
    steps = [step("s1", "succeeded", "x = 1"), step("s2", "running", None)]
    (task,) = read_claim({"tasks": [{**TASK, "steps": steps}], "next_due_seconds": None}).tasks
    assert task.resume is not None
    assert [item.id for item in task.resume.plan.steps] == ["s1", "s2"]
    assert [(item.step_id, item.code) for item in task.resume.finished] == [("s1", "x = 1")]


def test_a_task_that_cannot_be_read_does_not_hold_up_the_others() -> None:
    odd = {**TASK, "id": 8, "inputs": [{"name": "a", "storage_path": "u/a", "bytes": None}]}
    claim = read_claim({"tasks": [odd, TASK], "next_due_seconds": None})
    assert [task.id for task in claim.tasks] == [7]
    ((fence, problem),) = claim.unreadable
    assert fence == Fence(8, 2)
    assert "inputs.0.bytes" in problem


def api_error(code: str) -> APIError:
    return APIError({"code": code, "message": "what the database said", "details": None, "hint": None})


@pytest.mark.parametrize(
    "error",
    [
        api_error("40P01"),
        api_error("57014"),
        api_error("53300"),
        api_error("25006"),
        api_error("PGRST301"),
        api_error("restarting"),
        api_error("503"),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.DecodingError("cut"),
        TimeoutError(),
        StorageApiError("busy", "x", 503),
    ],
    ids=repr,
)
def test_what_may_be_better_later_is_unavailable(error: Exception) -> None:
    with pytest.raises(StoreUnavailableError, match="read the task"), in_words("read the task"):
        raise error


@pytest.mark.parametrize("code", ["22023", "42501", "23514"])
def test_what_the_database_refuses_is_told_in_its_own_words(code: str) -> None:
    with pytest.raises(InvalidInputError, match="what the database said"), in_words("read the task"):
        raise api_error(code)


async def test_no_call_waits_for_ever() -> None:
    with pytest.raises(StoreUnavailableError, match="did not answer"):
        await call("wait", asyncio.sleep(5), deadline=0.01)
