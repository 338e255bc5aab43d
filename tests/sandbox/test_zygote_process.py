"""The owner's side of the zygote: a loss that is for good is told, no socket is taken from another."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pythonic_assistant.adapters.sandbox import connect_sandbox, zygote_process, zygote_sandbox
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess
from pythonic_assistant.domain.errors import ConfigurationError, SandboxUnavailableError

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote_process, "_RESPAWN_SECONDS", 0.001)


def _kill(zygote: ZygoteProcess) -> None:
    assert zygote.pid is not None
    os.kill(zygote.pid, signal.SIGKILL)


@pytest.mark.usefixtures("hurried")
async def test_a_zygote_that_cannot_be_started_again_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with zygote_sandbox(tmp_path / "zygote.sock", probe=False) as sandbox:
        waiting = asyncio.create_task(sandbox.wait_lost())
        monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
        _kill(sandbox._source)
        with pytest.raises(SandboxUnavailableError, match=r"5 starts of another failed.*No such file"):
            await asyncio.wait_for(waiting, 10)
        with socket.socket(socket.AF_UNIX) as visitor, pytest.raises(ConnectionRefusedError):
            visitor.connect(str(sandbox.socket_path))
        with pytest.raises(SandboxUnavailableError, match="did not come back"):
            await sandbox.wait_lost()  # later comers hear of it as well


@pytest.mark.usefixtures("hurried")
async def test_a_shortage_that_passes_costs_only_time(monkeypatch: pytest.MonkeyPatch) -> None:
    real, shortages = subprocess.Popen[bytes], [errno.ENOMEM, errno.EMFILE, errno.EAGAIN]

    def scarce(*arguments: Any, **options: Any) -> Any:
        if shortages:
            number = shortages.pop()
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    async with ZygoteProcess() as zygote:
        lost = asyncio.create_task(zygote.wait_lost())
        monkeypatch.setattr(subprocess, "Popen", scarce)
        _kill(zygote)
        async with await connect_sandbox(zygote.socket_path).open() as session:
            assert (await session.execute("1 + 1", timeout=5)).value == "2"
        assert not shortages
        assert not lost.done()
        lost.cancel()


@pytest.mark.usefixtures("hurried")
async def test_a_zygote_that_hangs_at_its_start_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never answers must not be waited for until it closes its channel."""
    monkeypatch.setattr(zygote_process, "_STOP_SECONDS", 0.2)
    async with ZygoteProcess() as zygote:
        monkeypatch.setattr(zygote_process, "_START_SECONDS", 0.001)
        first = zygote.pid
        _kill(zygote)
        async with asyncio.timeout(5):
            while zygote.pid in (None, first):
                await asyncio.sleep(0)
        assert zygote.pid is not None
        os.kill(zygote.pid, signal.SIGSTOP)
        monkeypatch.setattr(zygote_process, "_START_SECONDS", 30.0)
        async with await connect_sandbox(zygote.socket_path).open() as session:
            assert (await session.execute("2 + 2", timeout=5)).value == "4"


async def test_a_guard_that_fails_loses_the_zygote_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: ZygoteProcess) -> None:
        raise RuntimeError("can't start new thread")

    async with ZygoteProcess() as zygote:
        monkeypatch.setattr(ZygoteProcess, "_spawn", broken)
        _kill(zygote)
        with pytest.raises(SandboxUnavailableError, match="can't start new thread"):
            await asyncio.wait_for(zygote.wait_lost(), 10)


async def test_closing_ends_the_waiting() -> None:
    async with ZygoteProcess() as zygote:
        waiting = asyncio.create_task(zygote.wait_lost())
        await asyncio.sleep(0)
        assert not waiting.done()
    with pytest.raises(SandboxUnavailableError, match="closed"):
        await asyncio.wait_for(waiting, 1)


async def test_a_socket_in_use_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "zygote.sock"
    async with zygote_sandbox(path, probe=False) as sandbox:
        with pytest.raises(ConfigurationError, match="Another process serves a sandbox at"):
            await ZygoteProcess(path).start()
        async with await sandbox.open() as session:
            assert (await session.execute("1", timeout=5)).value == "1"
    assert not path.exists()


async def test_a_dead_socket_is_replaced_and_another_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "zygote.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with zygote_sandbox(path, probe=False) as sandbox, await sandbox.open() as session:
        assert (await session.execute("1", timeout=5)).value == "1"
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="another kind of file"):
        await ZygoteProcess(path).start()
    assert path.read_text() == "precious"


async def test_the_socket_of_an_orphan_is_waited_for(tmp_path: Path) -> None:
    """A killed owner's zygote may hold the socket a moment longer than its owner lived."""
    path = tmp_path / "zygote.sock"
    orphan = socket.socket(socket.AF_UNIX)
    orphan.bind(str(path))
    orphan.listen()
    asyncio.get_running_loop().call_later(0.3, orphan.close)
    async with ZygoteProcess(path) as zygote:
        assert zygote.pid is not None


async def test_closing_leaves_the_socket_of_a_successor(tmp_path: Path) -> None:
    path = tmp_path / "zygote.sock"
    with socket.socket(socket.AF_UNIX) as successor:
        async with ZygoteProcess(path):
            path.rename(tmp_path / "moved")  # its inode stays in use, so that it cannot be given out again
            successor.bind(str(path))
        assert path.is_socket()


async def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be made"):
        await ZygoteProcess(tmp_path / "file" / "zygote.sock").start()


@pytest.mark.parametrize("tier", ["namespaces", "unsafe"])  # "unsafe" has the keeper of "landlock"
async def test_hosts_that_ask_and_leave_at_once_do_no_harm(tier: zygote_process.ZygoteTier) -> None:
    async with ZygoteProcess(tier=tier) as zygote:
        before = zygote.pid
        for _ in range(10):
            visitors = [socket.socket(socket.AF_UNIX) for _ in range(40)]
            for number, visitor in enumerate(visitors):
                visitor.settimeout(10)
                await asyncio.to_thread(visitor.connect, str(zygote.socket_path))
                if number % 2:
                    visitor.close()
            for visitor in visitors:
                visitor.close()
            await asyncio.sleep(0.05)
        async with await connect_sandbox(zygote.socket_path).open() as session:
            assert (await session.execute("1 + 1", timeout=5)).value == "2"
        assert zygote.pid == before, "it is still the same one"
