"""The runner's process: its lines, and what ends it. The demo's probe needs neither a sandbox nor a model."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pythonic_assistant.domain.event import RunFailed, RunSucceeded
from pythonic_assistant.domain.task import DEMO_MODEL, RunRequest
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.tools.built_in import THREAD_FILES
from pythonic_assistant.wire import (
    ModelConfig,
    RunOrder,
    TimedEvent,
    ToolAnswered,
    read_from_runner,
    write_answer,
    write_order,
)


def order(folder: Path, *tools: ToolSpec, base_url: str | None = None) -> bytes:
    model = ModelConfig(model="m" if base_url else DEMO_MODEL, api_key="k", base_url=base_url)
    return write_order(
        RunOrder(
            request=RunRequest(prompt="x", kind="probe", tools=tools),
            model=model,
            sandbox_socket=folder / "none",
            outbox=folder,
        )
    )


@pytest.fixture
async def runner() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pythonic_assistant"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    yield process
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def say(runner: asyncio.subprocess.Process, *lines: bytes) -> None:
    assert runner.stdin is not None
    runner.stdin.writelines(lines)
    await runner.stdin.drain()


async def events(runner: asyncio.subprocess.Process) -> list[object]:
    assert runner.stdout is not None
    async with asyncio.timeout(30):
        said = [read_from_runner(line) async for line in runner.stdout]
    return [line.event if isinstance(line, TimedEvent) else line for line in said]


async def test_an_answer_that_nobody_waits_for_does_not_end_a_run(
    runner: asyncio.subprocess.Process, tmp_path: Path
) -> None:
    late = write_answer(ToolAnswered(id=7, value=[1]))
    await say(runner, order(tmp_path, THREAD_FILES), late, late)
    assert isinstance((await events(runner))[-1], RunSucceeded)
    assert await runner.wait() == 0


async def test_a_tool_whose_schema_is_none_fails_the_run_with_a_sentence(
    runner: asyncio.subprocess.Process, tmp_path: Path
) -> None:
    bad = ToolSpec(name="bad", description="", parameters={"type": "object", "required": 1})
    await say(runner, order(tmp_path, bad))
    (end,) = await events(runner)
    assert isinstance(end, RunFailed)
    assert "The schema of the tool 'bad' is none" in end.error


@pytest.mark.parametrize("last", [b"no answer\n", None], ids=["garbage", "end"])
async def test_a_worker_that_goes_or_talks_nonsense_ends_the_run(
    runner: asyncio.subprocess.Process, tmp_path: Path, last: bytes | None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        url = f"http://127.0.0.1:{never_answers.getsockname()[1]}/v1"
        await say(runner, order(tmp_path, base_url=url))
        assert runner.stdout is not None
        async with asyncio.timeout(30):
            assert b"run_started" in await runner.stdout.readline()
        if last is not None:
            await say(runner, last)
        else:
            assert runner.stdin is not None
            runner.stdin.close()
        async with asyncio.timeout(10):
            assert await runner.wait() == 3
