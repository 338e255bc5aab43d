"""Boxes from outside: nothing is left of those whose owner is gone, or that were asked for too late."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from pythonic_assistant.adapters.sandbox import connect_sandbox
from pythonic_assistant.adapters.sandbox.box_server import BoxServer
from pythonic_assistant.adapters.sandbox.bwrap import BwrapLauncher
from pythonic_assistant.adapters.sandbox.bwrap_command import Shape
from pythonic_assistant.adapters.sandbox.process_group import ProcessGroup
from pythonic_assistant.domain.errors import SandboxUnavailableError
from pythonic_assistant.domain.limits import SandboxLimits

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
WARM = 2
KILLS = 30
MOST_SECONDS = 0.06  # two boxes are set up by then
# Owners are forks of one process, which inherits what they leave behind, and waits until that has ended.
KILLER = f"""
import asyncio, os, random, signal, sys, time
from pathlib import Path
from pythonic_assistant.adapters.sandbox.bwrap import bwrap_sandbox
from pythonic_assistant.adapters.sandbox.inside.syscalls import PR_SET_CHILD_SUBREAPER, prctl
from pythonic_assistant.adapters.sandbox.options import SandboxOptions

async def own(path, told):
    os.write(told, b".")
    async with bwrap_sandbox(path, SandboxOptions(warm=2), probe=False):
        await asyncio.sleep(60)

def left(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.005)
        except ChildProcessError:
            return []
    return [int(pid) for pid in Path(f"/proc/self/task/{{os.getpid()}}/children").read_text().split()]

prctl(PR_SET_CHILD_SUBREAPER, 1)
for number in range({KILLS}):
    heard, told = os.pipe()
    owner = os.fork()
    if owner == 0:
        os.close(heard)
        asyncio.run(own(Path(sys.argv[1], f"{{number}}.sock"), told))
    os.close(told)
    os.read(heard, 1)
    os.close(heard)
    time.sleep(random.uniform(0, {MOST_SECONDS}))
    os.kill(owner, signal.SIGKILL)
    for pid in left(5):
        print(number, Path(f"/proc/{{pid}}/cmdline").read_bytes()[:60], flush=True)
        os.kill(pid, signal.SIGKILL)
    left(5)
"""


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[BoxServer[Shape]]:
    programme = shutil.which("bwrap")
    assert programme is not None
    with ProcessGroup() as group:
        launcher = BwrapLauncher(programme, group)
        usual = launcher.shape_of(SandboxLimits(), None)
        async with BoxServer(launcher, usual, socket_path=tmp_path / "box.sock", warm=WARM) as made:
            yield made


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_an_owner_killed_while_boxes_are_set_up_leaves_no_process(tmp_path: Path) -> None:
    killer = subprocess.Popen(
        [sys.executable, "-c", KILLER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    left, _ = await asyncio.to_thread(killer.communicate)
    assert (killer.returncode, left) == (0, "")


async def test_boxes_of_many_sessions_leave_no_descriptor(server: BoxServer[Shape]) -> None:
    sandbox = connect_sandbox(server.socket_path)
    await _until(lambda: server.prepared == WARM)
    before = _descriptors()
    for number in range(12):
        async with await sandbox.open() as session:
            assert (await session.execute(f"{number}", timeout=20)).value == str(number)
    await _until(lambda: server.prepared == WARM)
    await _until(lambda: _descriptors() <= before)


async def test_whoever_connects_while_it_closes_is_refused_in_silence(
    server: BoxServer[Shape], caplog: pytest.LogCaptureFixture
) -> None:
    lost = asyncio.create_task(server.wait_lost())
    await asyncio.sleep(0)
    with (
        caplog.at_level(logging.WARNING),
        socket.socket(socket.AF_UNIX) as early,
        socket.socket(socket.AF_UNIX) as late,
    ):
        early.connect(str(server.socket_path))
        await asyncio.sleep(0)
        late.connect(str(server.socket_path))  # seen by the loop in the very turn in which it is closed
        closing = asyncio.create_task(server.close())
        await closing
        for client in (early, late):
            client.settimeout(5)
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                continue
    assert caplog.records == []
    with pytest.raises(SandboxUnavailableError, match="have been closed"):
        await lost
