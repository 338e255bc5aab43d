"""The runner's own process, killed and begun anew: a server that counts sees no request twice."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pythonic_assistant.adapters.sandbox import SandboxOptions, open_sandbox
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Recorded, Reply
from pythonic_assistant.domain.event import Event, ItemAdded, PlanMade, RunSucceeded
from pythonic_assistant.domain.plan import Plan
from pythonic_assistant.domain.task import Resume, RunRequest
from pythonic_assistant.wire import (
    LONGEST_LINE,
    ModelConfig,
    RunOrder,
    TimedEvent,
    read_from_runner,
    write_order,
)
from tests.servers.openai_server import TEST_KEY, TEST_MODEL, OpenAIServer
from tests.servers.script import Answer, Code, Data, Heard

STEP = {"id": "s1", "title": "Count", "goal": "count", "proof": "it is there", "depends_on": []}


def script(heard: Heard) -> Answer:
    if heard.wants == "code":
        return Code(code="x = 6 * 7\nprint(x)") if "not yet" in heard.last else Code(code="1 / 0  # not yet")
    if "x" in heard.last and "checks" in heard.last:
        return Data(data={"answer": "It is 42.", "checks": [{"claim": "x is 42", "code": "assert x == 42"}]})
    return Data(data={"steps": [STEP]})


async def started() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pythonic_assistant"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
    )


async def told_by(
    runner: asyncio.subprocess.Process, order: RunOrder, until_replies: int | None
) -> list[Event]:
    """Give an order; kill the runner when it has told of so many replies."""
    assert runner.stdin is not None and runner.stdout is not None
    runner.stdin.write(write_order(order))
    await runner.stdin.drain()
    events: list[Event] = []
    replies = sum(isinstance(row.item, Reply) for row in order.request.recorded)
    async with asyncio.timeout(60):
        async for line in runner.stdout:
            said = read_from_runner(line)
            assert isinstance(said, TimedEvent)
            events.append(said.event)
            replies += isinstance(said.event, ItemAdded) and isinstance(said.event.item, Reply)
            if replies == until_replies:
                runner.kill()
                break
        await runner.wait()
    return events


async def test_a_killed_runner_is_followed_by_one_that_goes_on(tmp_path: Path) -> None:
    kill_after = (1, 3, None)  # replies: in front of the first code, and of the last
    runners = [await started() for _ in kill_after]  # they import while the zygote does
    recorded: list[Recorded] = []
    spent = Usage()
    plan: Plan | None = None
    with OpenAIServer(script) as server:
        model = ModelConfig(model=TEST_MODEL, api_key=TEST_KEY, base_url=server.url)
        async with open_sandbox(tmp_path / "z.sock", options=SandboxOptions()):
            events: list[Event] = []
            for most, runner in zip(kill_after, runners, strict=True):
                outbox = tmp_path / f"until-{most}"
                outbox.mkdir()
                request = RunRequest(
                    prompt="count",
                    resume=Resume(plan=plan) if plan else None,
                    recorded=tuple(recorded),
                    spent=spent,
                    seed=1,
                )
                order = RunOrder(
                    request=request, model=model, sandbox_socket=tmp_path / "z.sock", outbox=outbox
                )
                events = await told_by(runner, order, most)
                for event in events:
                    if isinstance(event, ItemAdded):
                        del recorded[event.position :]
                        recorded.append(Recorded(item=event.item, data=event.data))
                        spent += event.usage or Usage()
                    elif isinstance(event, PlanMade):
                        plan = event.plan
        assert isinstance(events[-1], RunSucceeded), events[-1]
        assert events[-1].answer == "It is 42."
        replies = [row.item for row in recorded if isinstance(row.item, Reply)]
        assert len(replies) == 4 == spent.turns
        bodies = [str(body["input"]) for body in server.requests]
        kept = len(set(bodies))
        assert kept == 4, "each question was asked in the same words, however often"
        # A kill can hit a request that is on its way; nothing that was answered and told is asked again.
        assert len(bodies) <= 4 + 2
        assert server.refusals == []
