"""Whoever dies, nothing of a session without namespaces is left: no process, and no folder."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox.inside import scratch
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess
from pythonic_assistant.domain.errors import SandboxUnavailableError

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).resolve().parents[3]
BUSY = (
    "import os, time\nfor _ in range(3):\n    if os.fork() == 0: time.sleep(600)\n"
    "open('left', 'w').close()\nprint('busy', flush=True)\ntime.sleep(600)"
)
OWNER = f"""
import asyncio
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess
from pythonic_assistant.adapters.sandbox import connect_sandbox
async def main():
    async with ZygoteProcess(tier="landlock") as zygote:
        session = await connect_sandbox(zygote.socket_path).open()
        print((await session.execute("import os; os.getcwd()", timeout=5)).value.strip("'"), flush=True)
        print(zygote.pid, flush=True)
        show = lambda _, text: print(text, end="", flush=True)
        await session.execute({BUSY!r}, timeout=600, on_output=show)
asyncio.run(main())
"""


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


def _gone(process: int) -> bool:
    # Nobody may have reaped it yet: a zombie is no process that runs.
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def _until(condition: Callable[[], bool], seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def _session_folders(path: Path) -> list[str]:
    """What is beside a session's folder, but the zygote's own."""
    return sorted(name for name in os.listdir(path.parents[1]) if name not in ("lock", "zygote"))


async def _at_rest(zygote: ZygoteProcess) -> int:
    """Wait until what earlier tests closed is gone; the half that forks is left, and the attendant."""
    rest = 1 if zygote.details["memory"] == "watchdog" else 2
    await _until(lambda: len(_descendants(zygote.pid)) == rest, 10)
    return rest


async def _owner() -> tuple[subprocess.Popen[str], Path, list[int]]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert owner.stdout is not None
    folder = Path((await asyncio.to_thread(owner.stdout.readline)).strip())
    zygote = int(await asyncio.to_thread(owner.stdout.readline))
    assert await asyncio.to_thread(owner.stdout.readline) == "busy\n"
    family = [zygote, *_descendants(zygote)]
    assert len(family) >= 7  # keeper, zygote, init, REPL and three children
    assert (folder / "left").exists()
    return owner, folder, family


async def test_killed_owner_leaves_no_process_and_no_folder() -> None:
    owner, folder, family = await _owner()
    owner.kill()
    began = time.monotonic()
    await _until(lambda: all(_gone(process) for process in family))
    took = time.monotonic() - began
    await asyncio.to_thread(owner.communicate)
    assert not folder.exists()
    assert not folder.parents[1].exists()
    assert took < 1.0


async def test_killed_keeper_leaves_no_process_and_the_next_start_removes_its_folders() -> None:
    owner, folder, family = await _owner()
    owner.send_signal(signal.SIGSTOP)  # so that it does not start another
    os.kill(family[0], signal.SIGKILL)
    await _until(lambda: all(_gone(process) for process in family))
    owner.kill()
    await asyncio.to_thread(owner.communicate)
    assert folder.exists()
    async with ZygoteProcess(tier="landlock"):
        assert not folder.parents[1].exists()


async def test_killed_init_takes_its_session_along(newest: ZygoteProcess, sandbox: NamespaceSandbox) -> None:
    before = await _at_rest(newest)
    async with await sandbox.open() as session:
        init = int((await session.execute("import os; os.getppid()", timeout=5)).value)
        running = asyncio.create_task(session.execute(BUSY, timeout=60))
        await _until(lambda: len(_descendants(newest.pid)) >= before + 5)
        os.kill(init, signal.SIGKILL)
        result = await running
        assert result.outcome == "died"
        await _until(lambda: len(_descendants(newest.pid)) == before)


async def test_processes_cannot_get_away_from_their_session(
    newest: ZygoteProcess, sandbox: NamespaceSandbox
) -> None:
    before = await _at_rest(newest)
    session = await sandbox.open()
    result = await session.execute(
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    for number in range(1, 32):\n"
        "        try: signal.signal(number, signal.SIG_IGN)\n"
        "        except OSError: pass\n"
        "    try: os.setsid()\n"
        "    except OSError: pass\n"
        "    if os.fork() == 0: time.sleep(600)\n"
        "    os._exit(0)\n"
        "time.sleep(0.1)",
        timeout=5,
    )
    assert result.outcome == "ok"
    assert len(_descendants(newest.pid)) >= before + 3
    await session.close()
    await _until(lambda: len(_descendants(newest.pid)) == before)


async def test_hundred_sessions_leave_nothing(newest: ZygoteProcess, sandbox: NamespaceSandbox) -> None:
    async with await sandbox.open() as session:
        path = Path((await session.execute("import os; os.getcwd()", timeout=5)).value.strip("'"))
    await _until(lambda: _session_folders(path) == [], 10)
    processes = await _at_rest(newest)
    descriptors = len(os.listdir(f"/proc/{newest.pid}/fd"))
    for _ in range(25):
        made = await asyncio.gather(*(sandbox.open() for _ in range(4)))
        await made[0].execute("import os\nos.makedirs('a/b/c'); open('a/f', 'w').close()", timeout=5)
        await asyncio.gather(*(session.close() for session in made))
    await _until(lambda: _session_folders(path) == [], 10)
    await _until(lambda: len(_descendants(newest.pid)) == processes)
    assert len(os.listdir(f"/proc/{newest.pid}/fd")) == descriptors


async def test_folders_made_to_stay_are_removed(newest: ZygoteProcess, sandbox: NamespaceSandbox) -> None:
    session = await sandbox.open()
    result = await session.execute(
        "import os\nhome = os.getcwd()\n"
        "for _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\n"  # no path is as long as this one
        "os.chdir(home)\nos.mkdir('closed'); open('closed/f', 'w').close(); os.chmod('closed', 0)\n"
        "os.symlink('/usr', 'link'); os.mkdir('x' * 255)\nhome",
        timeout=10,
    )
    assert result.outcome == "ok", result.error
    path = Path(result.value.strip("'"))
    await session.close()
    await _until(lambda: _session_folders(path) == [], 10)
    assert Path("/usr/bin").exists()


async def test_results_can_be_collected_after_death(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    async with await sandbox.open() as session:
        await session.execute("open('kept.txt', 'w').write('here')", timeout=5)
        assert (await session.execute("import os; os._exit(3)", timeout=5)).outcome == "died"
        await asyncio.sleep(0.2)
        (found,) = await session.collect(tmp_path)
    assert found.path.read_text() == "here"


async def test_sixteen_at_once_stay_apart(sandbox: NamespaceSandbox) -> None:
    async def one(number: int) -> str:
        async with await sandbox.open() as session:
            await session.execute(f"mine = {number}; open('f', 'w').write(str(mine))", timeout=10)
            return (
                await session.execute("mine, open('f').read(), __import__('os').listdir()", timeout=10)
            ).value

    values = await asyncio.gather(*(one(number) for number in range(16)))
    assert values == [f"({number}, '{number}', ['f'])" for number in range(16)]


async def test_zygote_that_is_killed_is_replaced(newest: ZygoteProcess, sandbox: NamespaceSandbox) -> None:
    (inner,) = [child for child in _descendants(newest.pid) if Path(f"/proc/{child}/fd").is_dir()][:1]
    first = newest.pid
    os.kill(inner, signal.SIGKILL)
    await _until(lambda: newest.pid not in (first, None), 10)
    async with await sandbox.open() as again:
        assert (await again.execute("1 + 1", timeout=5)).value == "2"


async def test_a_zygote_for_one_user_does_not_lock_out_the_sessions_of_another(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if os.geteuid() == parent.stat().st_uid and not parent.stat().st_mode & 1:
            parent.chmod(0o755)
    passed = scratch.base(str(tmp_path), others_pass=True)
    again = scratch.base(str(tmp_path), others_pass=False)
    made, held = scratch.claim(again, others_pass=False)
    os.close(held)
    assert passed == again
    assert (passed.stat().st_mode & 0o777, made.stat().st_mode & 0o777) == (0o711, 0o700)


async def test_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    made = scratch.base(str(tmp_path), others_pass=False)
    assert made.stat().st_mode & 0o777 == 0o700
    made.chmod(0o777)
    with pytest.raises(scratch.ScratchError, match="others may write"):
        scratch.base(str(tmp_path), others_pass=False)
    made.rmdir()
    made.symlink_to("/usr")
    with pytest.raises(scratch.ScratchError, match="belongs to somebody else"):
        scratch.base(str(tmp_path), others_pass=False)


@pytest.mark.parametrize("most", [0] if os.geteuid() == 0 else [0, 2])
async def test_kernel_that_is_too_old_is_refused(most: int) -> None:
    with pytest.raises(SandboxUnavailableError, match="Landlock"):
        async with ZygoteProcess(tier="landlock", landlock_most=most):
            pass
