"""Whoever dies, nothing of a session is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from pythonic_assistant.adapters.sandbox import connect_sandbox
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess
from pythonic_assistant.domain.errors import SandboxDiedError

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).resolve().parents[2]
BUSY = (
    "import os, time\nfor _ in range(3):\n    if os.fork() == 0: time.sleep(600)\n"
    "print('busy', flush=True)\ntime.sleep(600)"
)
RUNNER = f"""
import asyncio, sys
from pathlib import Path
from pythonic_assistant.adapters.sandbox import connect_sandbox
async def main():
    session = await connect_sandbox(Path(sys.argv[1])).open()
    await session.execute({BUSY!r}, timeout=600, on_output=lambda _, text: print(text, end="", flush=True))
asyncio.run(main())
"""
OWNER = f"""
import asyncio
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess
from pythonic_assistant.adapters.sandbox import connect_sandbox
async def main():
    async with ZygoteProcess() as zygote:
        session = await connect_sandbox(zygote.socket_path).open()
        print(zygote.pid, flush=True)
        show = lambda _, text: print(text, end="", flush=True)
        await session.execute({BUSY!r}, timeout=600, on_output=show)
asyncio.run(main())
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def zygote() -> AsyncIterator[ZygoteProcess]:
    async with ZygoteProcess() as started:
        yield started


def _descendants(pid: int | None) -> list[int]:
    found: list[int] = []
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        try:
            children = Path(f"/proc/{current}/task/{current}/children").read_text().split()
        except OSError:
            continue
        found += [int(child) for child in children]
        waiting += [int(child) for child in children]
    return found


async def _until(condition: Callable[[], bool], seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def _start(code: str, *arguments: str, temporary: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | ({"TMPDIR": str(temporary)} if temporary else {}),
    )


async def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    await asyncio.to_thread(process.communicate)


async def test_killed_runner_leaves_no_process(zygote: ZygoteProcess) -> None:
    before = len(_descendants(zygote.pid))
    runner = _start(RUNNER, str(zygote.socket_path))
    assert runner.stdout is not None
    assert await asyncio.to_thread(runner.stdout.readline) == "busy\n"
    assert len(_descendants(zygote.pid)) >= before + 5  # init, REPL and three children
    await _kill(runner)
    await _until(lambda: len(_descendants(zygote.pid)) == before)


async def test_killed_owner_leaves_no_process(tmp_path: Path) -> None:
    owner = _start(OWNER, temporary=tmp_path)  # it cannot remove its socket's folder
    assert owner.stdout is not None
    pid = int(await asyncio.to_thread(owner.stdout.readline))
    assert await asyncio.to_thread(owner.stdout.readline) == "busy\n"
    family = [pid, *_descendants(pid)]
    assert len(family) >= 7
    await _kill(owner)

    def gone(process: int) -> bool:
        # Nobody may have reaped it yet: a zombie is no process that runs.
        try:
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    await _until(lambda: all(gone(process) for process in family))


async def test_closed_session_leaves_no_process(zygote: ZygoteProcess) -> None:
    before = len(_descendants(zygote.pid))
    session = await connect_sandbox(zygote.socket_path).open()
    await session.execute("import subprocess; subprocess.Popen(['sleep', '600'])", timeout=5)
    assert len(_descendants(zygote.pid)) >= before + 3
    await session.close()
    await session.close()
    await _until(lambda: len(_descendants(zygote.pid)) == before)


async def test_cancelled_execution_leaves_nothing_running(zygote: ZygoteProcess) -> None:
    before = len(_descendants(zygote.pid))
    async with await connect_sandbox(zygote.socket_path).open() as session:
        running = asyncio.create_task(session.execute("while True: pass", timeout=60))
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await _until(lambda: len(_descendants(zygote.pid)) == before)
        with pytest.raises(SandboxDiedError, match="cancelled"):
            await session.execute("1", timeout=1)


async def test_killed_zygote_ends_sessions_and_is_replaced(zygote: ZygoteProcess) -> None:
    sandbox = connect_sandbox(zygote.socket_path)
    async with await sandbox.open() as session:
        first = zygote.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        result = await session.execute("import time; time.sleep(5)", timeout=6)
        assert result.outcome == "died"
        assert "zygote" in result.error
    async with await sandbox.open() as again:
        assert (await again.execute("1 + 1", timeout=5)).value == "2"
    assert zygote.pid != first


async def test_nothing_persists_into_the_next_session(sandbox: NamespaceSandbox) -> None:
    mark = (
        "import builtins, os, sys, json\nbuiltins.mark = 1\njson.mark = 1\nsys.path.append('mark')\n"
        "open('mark', 'w').close(); open('/tmp/mark', 'w').close(); open('/dev/shm/mark', 'w').close()"
    )
    look = (
        "import builtins, os, sys, json\n"
        "hasattr(builtins, 'mark'), hasattr(json, 'mark'), 'mark' in sys.path, "
        "[os.path.exists(p) for p in ('mark', '/tmp/mark', '/dev/shm/mark')], os.listdir('.')"
    )
    async with await sandbox.open() as first:
        assert (await first.execute(mark, timeout=5)).outcome == "ok"
        async with await sandbox.open() as beside:
            beside_value = (await beside.execute(look, timeout=5)).value
    async with await sandbox.open() as after:
        after_value = (await after.execute(look, timeout=5)).value
    assert beside_value == after_value == "(False, False, False, [False, False, False], [])"


async def test_many_sessions_at_once_stay_apart(sandbox: NamespaceSandbox) -> None:
    async def one(number: int) -> str:
        async with await sandbox.open() as session:
            await session.execute(f"mine = {number}; open('f', 'w').write(str(mine))", timeout=10)
            return (await session.execute("mine, open('f').read()", timeout=10)).value

    values = await asyncio.gather(*(one(number) for number in range(12)))
    assert values == [f"({number}, '{number}')" for number in range(12)]


async def test_descriptors_of_the_host_do_not_leak(sandbox: NamespaceSandbox) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with await sandbox.open() as session:
            await session.execute("1", timeout=5)
            await session.variables()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_rubbish_on_the_zygotes_socket_harms_nobody(
    sandbox: NamespaceSandbox, session: NamespaceSession
) -> None:
    for rubbish in (b"", b"\xff" * 64, b"\0\0\0\2[]", b"\0\0\0\x02{}"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(sandbox.socket_path))
            client.sendall(rubbish)
    assert (await session.execute("1", timeout=5)).value == "1"
    async with await sandbox.open() as other:
        assert (await other.execute("2", timeout=5)).value == "2"


async def test_another_user_is_refused(sandbox: NamespaceSandbox) -> None:
    """Even one who is shown the socket. Only root can become another user to try."""
    code = (
        "import os, socket, sys\nos.setgroups([]); os.setuid(60002)\ns = socket.socket(socket.AF_UNIX)\n"
        "try:\n    s.connect(sys.argv[1]); s.settimeout(5); print('got', len(s.recv(1)))\n"
        "except OSError as error:\n    print(type(error).__name__)"
    )
    folder = sandbox.socket_path.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sandbox.socket_path.stat().st_mode & 0o777 == 0o600
    if os.geteuid() != 0:
        return
    folder.chmod(0o755)
    sandbox.socket_path.chmod(0o666)
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", code, str(sandbox.socket_path)],
            capture_output=True,
            text=True,
        )
    finally:
        folder.chmod(0o700)
        sandbox.socket_path.chmod(0o600)
    assert done.stdout.strip() in ("got 0", "ConnectionResetError"), done.stderr
