"""kill -9 of each part in the middle of a task: the task ends, once, and keeps its finished steps."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance import slow
from tests.acceptance.stack import Stack, running_stack, until
from tests.servers.openai_server import TEST_MODEL, OpenAIServer

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(slow.script, key="sk-test") as made:
        yield made


@pytest.fixture(scope="module")
def stack(server: OpenAIServer) -> Iterator[Stack]:
    settings = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.url, "PYTHONIC_MODEL": TEST_MODEL}
    with running_stack(settings) as made:
        yield made


def in_the_slow_step(stack: Stack, word: str, seconds: float) -> int:
    """Ask, and return when the second step's code is running."""
    task = stack.insert_task(prompt=slow.prompt(word, seconds))
    until(
        lambda: any(
            event["kind"] == "output_written" and event["step_id"] == "s2" for event in stack.events(task)
        ),
        seconds=20,
        what="the slow step's output",
    )
    return task


def ended(stack: Stack, task: int, seconds: float) -> dict[str, Any]:
    return until(
        lambda: (row := stack.task(task))["finished_at"] and row,
        seconds=seconds,
        what=f"the end of task {task}",
    )


def asked_for_plans(server: OpenAIServer, word: str) -> int:
    """How often the model was asked to plan the task with this word: only the first attempt may."""
    texts = [str(request) for request in server.requests]
    return sum(
        f"slow task {word} " in text
        and "Make a plan" in text
        and not any(later in text for later in ("Step s1", "Your plan:"))
        for text in texts
    )


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [
        process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def assert_proven_once(stack: Stack, server: OpenAIServer, task: int, word: str, *, attempts: int) -> None:
    row = ended(stack, task, 40)
    assert (row["state"], row["verdict"]) == ("succeeded", "proven"), row["error"]
    assert row["answer"] == f"{word} has {len(word)} letters."
    assert row["attempt"] == attempts
    answers = stack.rest("GET", f"messages?task_id=eq.{task}&role=eq.assistant")
    assert len(answers) == 1
    events = stack.events(task)
    first = [event for event in events if event["kind"] == "step_finished" and event["step_id"] == "s1"]
    assert [event["attempt"] for event in first] == [1], "the finished step was not done again"
    assert asked_for_plans(server, word) == 1
    restored = [event["step_id"] for event in events if event["kind"] == "step_restored"]
    assert restored == (["s1"] if attempts > 1 else [])
    for attempt in range(1, attempts + 1):
        numbers = [event["seq"] for event in events if event["attempt"] == attempt]
        assert numbers == list(range(1, len(numbers) + 1))


def test_of_the_runner(stack: Stack, server: OpenAIServer) -> None:
    task = in_the_slow_step(stack, "runner", 3)
    log = stack.home / "logs" / "worker.log"
    pid = int(
        re.findall(
            rf'"action": "run_started", "task_id": {task}, "attempt": 1, "pid": (\d+)', log.read_text()
        )[-1]
    )
    sandbox_before = len(stack.find("inside/__main__"))
    os.kill(pid, signal.SIGKILL)
    until(
        lambda: len(stack.find("inside/__main__")) < sandbox_before,
        seconds=2,
        what="the end of its sandbox session",
    )
    assert_proven_once(stack, server, task, "runner", attempts=2)


def test_of_the_worker(stack: Stack, server: OpenAIServer) -> None:
    task = in_the_slow_step(stack, "worker", 3)
    (worker,) = stack.find("-m worker")
    below = worker.children(recursive=True)
    began = time.monotonic()
    worker.kill()
    until(lambda: not alive(below), seconds=5, what="the end of what the worker had started")
    until(lambda: stack.task(task)["attempt"] == 2, seconds=20, what="the second attempt")
    assert time.monotonic() - began <= 10, (
        "a restarted worker takes its own tasks back without waiting for the lease"
    )
    assert_proven_once(stack, server, task, "worker", attempts=2)


def test_of_the_zygote(stack: Stack, server: OpenAIServer) -> None:
    """All sessions die with it; the run goes on in a new one, in the state after the finished step."""
    task = in_the_slow_step(stack, "zygote", 3)
    (worker,) = stack.find("-m worker")
    (zygote,) = [
        child for child in worker.children() if any("inside/__main__" in word for word in child.cmdline())
    ]
    zygote.kill()
    row = ended(stack, task, 40)
    assert (row["state"], row["verdict"], row["attempt"]) == ("succeeded", "proven", 1), row["error"]
    executed = [
        event["data"]["outcome"]
        for event in stack.events(task)
        if event["kind"] == "code_executed" and event["step_id"] == "s2"
    ]
    assert executed == ["died", "ok"]
    assert asked_for_plans(server, "zygote") == 1


def test_of_postgresql(stack: Stack, server: OpenAIServer) -> None:
    task = in_the_slow_step(stack, "postgresql", 2)
    (postmaster,) = [
        process for process in stack.find("postgres", "-D") if "postgres" not in process.parent().name()  # type: ignore[union-attr]  # a child has a parent
    ]  # fmt: skip
    for process in [postmaster, *postmaster.children(recursive=True)]:
        process.kill()
    until(
        lambda: stack.find("postgres", "-D") and answers(stack), seconds=20, what="the return of the database"
    )
    row = ended(stack, task, 40)
    assert_proven_once(stack, server, task, "postgresql", attempts=row["attempt"])


def answers(stack: Stack) -> bool:
    try:
        stack.rest("GET", "tasks?limit=1")
    except httpx.HTTPError:
        return False
    return True


def test_cancelling_kills_the_code_within_a_second(stack: Stack) -> None:
    task = in_the_slow_step(stack, "cancelled", 60)
    sandbox_before = len(stack.find("inside/__main__"))
    began = time.monotonic()
    assert stack.rest("POST", "rpc/cancel_task", json={"task_id": task}) == "cancelling"
    row = ended(stack, task, 5)
    assert row["state"] == "cancelled"
    until(
        lambda: len(stack.find("inside/__main__")) < sandbox_before, seconds=1, what="the end of the session"
    )
    assert time.monotonic() - began <= 1.0


def test_stopping_gives_unfinished_tasks_back_and_leaves_nothing(stack: Stack) -> None:
    """The last of this module: it stops the stack."""
    task = in_the_slow_step(stack, "stopped", 30)
    below = stack.descendants()
    (worker,) = stack.find("-m worker")
    worker.terminate()
    row = until(
        lambda: ((r := stack.task(task))["state"] == "queued" and r) or (r["attempt"] == 2 and r),
        seconds=5,
        what="the return of the task",
    )
    assert row["failures"] == 0
    assert stack.stop() == 0
    time.sleep(0.2)
    assert alive(below) == []
