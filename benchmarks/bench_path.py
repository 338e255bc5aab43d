"""From a task that is asked to the first request at the model's server, with everything running.

`python -m benchmarks.bench_path [tasks]`. The clock starts before the person's call of `enqueue_task` over
HTTP and stops when the model's server, which is in this process, has received the runner's first request:
admission, broadcast, claim, runner, sandbox session and connection are all in it. Tasks come one after the
other, with a pause in which the worker gets its next spare runner, as people's do.

The peer is starting a runner afresh, which is what every task would wait for without the spare.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from threading import Event
from typing import Any, cast

import httpx

from benchmarks.report import Figure, against_goal, against_peer, percentile, report
from tests.acceptance.stack import Stack, running_stack, until
from tests.servers.openai_server import TEST_MODEL, OpenAIServer
from tests.servers.script import Answer, Code, Data, Heard

PAUSE_SECONDS = 1.2
WARM_UP = 3


class FirstRequest:
    """A model's server that notes when it hears of a task for the first time."""

    def __init__(self) -> None:
        self.heard = Event()
        self.at = 0.0

    def expect(self) -> None:
        """Wait for a new task."""
        self.heard.clear()

    def __call__(self, heard: Heard) -> Answer:
        if not self.heard.is_set():
            self.at = time.perf_counter()
            self.heard.set()
        if heard.wants == "code":
            return Code(code="total = 1 + 1\nprint(total)")
        if "All steps are done." in heard.last:
            return Data(data={"answer": "2", "checks": [{"claim": "2", "code": "assert total == 2"}]})
        step: dict[str, object] = {"id": "s1", "title": "Add", "goal": "add", "proof": "2", "depends_on": []}
        return Data(data={"steps": [step]})


def main() -> None:
    """Measure, print, write."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    first = FirstRequest()
    with (
        OpenAIServer(first, key="sk-bench") as server,
        running_stack(
            {"OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": server.url, "PYTHONIC_MODEL": TEST_MODEL}
        ) as stack,
        httpx.Client(base_url=stack.supabase, headers=_sign_in(stack), timeout=20) as person,
    ):
        times: list[float] = []
        whole: list[float] = []
        for number in range(WARM_UP + count):
            first.expect()
            began = time.perf_counter()
            answer = person.post("/rest/v1/rpc/enqueue_task", json={"prompt": f"task {number}"})
            answer.raise_for_status()
            if not first.heard.wait(20):
                raise SystemExit("The model's server was not asked within 20 s.")
            until(_ended(stack, task_id_of(answer.json())), seconds=20, what="the end of the task")
            if number >= WARM_UP:
                times.append((first.at - began) * 1000)
                whole.append((time.perf_counter() - began) * 1000)
            time.sleep(PAUSE_SECONDS)
    fresh = _fresh_runner_milliseconds()
    report(
        "path",
        [
            Figure(
                name="enqueue → first model request p50", value=round(percentile(times, 50), 1), unit="ms"
            ),
            against_goal("enqueue → first model request p95", percentile(times, 95), "ms", 150),
            against_peer(
                "enqueue → first model request p50",
                percentile(times, 50),
                "ms",
                "starting and importing a runner",
                fresh,
            ),
            Figure(
                name="enqueue → proven, model time about 0, p50",
                value=round(percentile(whole, 50), 1),
                unit="ms",
            ),
        ],
    )


def task_id_of(row: Any) -> int:
    """The id in what `enqueue_task` returned: an object, or a list of one."""
    first = cast("dict[str, int]", row[0] if isinstance(row, list) else row)
    return first["id"]


def _ended(stack: Stack, task: int) -> Callable[[], bool]:
    return lambda: stack.task(task)["finished_at"] is not None


def _sign_in(stack: Stack) -> dict[str, str]:
    keys = stack.keys
    answer = httpx.post(
        f"{stack.supabase}/auth/v1/token?grant_type=password",
        json=keys["local_user"],
        headers={"apikey": keys["publishable_key"]},
        timeout=20,
    )
    answer.raise_for_status()
    return {"apikey": keys["publishable_key"], "authorization": f"Bearer {answer.json()['access_token']}"}


def _fresh_runner_milliseconds() -> float:
    """A runner that is given no order ends as soon as it has imported everything."""
    began = time.perf_counter()
    for _ in range(3):
        subprocess.run([sys.executable, "-m", "pythonic_assistant"], stdin=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000 / 3


if __name__ == "__main__":
    main()
