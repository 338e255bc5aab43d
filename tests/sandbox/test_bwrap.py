"""Tier bwrap: the same walls, made by bubblewrap, around sessions that are prepared ahead."""

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
from pythonic_assistant.adapters.sandbox.bwrap import bwrap_sandbox
from pythonic_assistant.adapters.sandbox.options import SandboxOptions
from pythonic_assistant.adapters.sandbox.owned import OwnedSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import SandboxLimits

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
OWNER = """
import asyncio, sys
from pathlib import Path
from pythonic_assistant.adapters.sandbox.bwrap import bwrap_sandbox
from pythonic_assistant.adapters.sandbox.options import SandboxOptions
async def main():
    async with bwrap_sandbox(Path(sys.argv[1]), SandboxOptions(warm=1), probe=False) as sandbox:
        session = await sandbox.open()
        show = lambda _, text: print(text, end="", flush=True)
        await session.execute(sys.argv[2], timeout=600, on_output=show)
asyncio.run(main())
"""
BUSY = (
    "import os, time\nfor _ in range(3):\n    if os.fork() == 0: time.sleep(600)\n"
    "print('busy', flush=True)\ntime.sleep(600)"
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def boxes() -> AsyncIterator[OwnedSandbox]:
    async with bwrap_sandbox(None, SandboxOptions()) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def box(boxes: OwnedSandbox) -> AsyncIterator[NamespaceSession]:
    async with await boxes.open() as made:
        yield made


def _input(name: str, path: Path) -> InputFile:
    return InputFile(name=name, path=path, media_type="text/plain", bytes=path.stat().st_size)


def _below(pid: int) -> list[int]:
    found: list[int] = []
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        for task in Path(f"/proc/{current}/task").glob("*/children"):
            try:
                children = [int(child) for child in task.read_text().split()]
            except OSError:
                continue
            found += children
            waiting += children
    return found


def _gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_has_no_privileges_and_only_its_own_descriptors(box: NamespaceSession) -> None:
    result = await box.execute(
        "import os\n"
        "fields = dict(l.split(':', 1) for l in open('/proc/self/status').read().splitlines() if ':' in l)\n"
        "[int(fields[n], 16) for n in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')], "
        "fields['NoNewPrivs'].strip(), fields['Seccomp'].strip(), os.getuid(), fields['Groups'].split(), "
        "sorted(os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in os.listdir('/proc/self/fd') "
        "if os.path.lexists(f'/proc/self/fd/{n}'))",
        timeout=5,
    )
    # The sockets: control, and to session init for checkpoints.
    descriptors = "['/dev/null', '/dev/null', 'pipe', 'pipe', 'socket', 'socket']"
    assert result.value in (
        f"([0, 0, 0, 0, 0], '1', '2', 1000, [], {descriptors})",
        # an ordinary user's own group has no name inside
        f"([0, 0, 0, 0, 0], '1', '2', 1000, ['65534'], {descriptors})",
    )


async def test_nothing_of_the_host_can_be_written(box: NamespaceSession) -> None:
    result = await box.execute(
        "import os, pathlib\nwritten = []\n"
        "for line in open('/proc/self/mounts'):\n"
        "    place = line.split()[1]\n"
        "    if place.startswith('/proc'): continue\n"
        "    try:\n        pathlib.Path(place, 'owned').write_text('x')\n"
        "    except OSError: continue\n"
        "    written.append(place)\n"
        "for knob in ('/proc/sys/kernel/hostname', '/proc/sys/vm/drop_caches', '/proc/sysrq-trigger'):\n"
        "    try:\n        open(knob, 'w').write('1')\n"
        "    except OSError: continue\n"
        "    written.append(knob)\n"
        "sorted(written)",
        timeout=5,
    )
    assert result.value == "['/dev/shm', '/scratch', '/tmp']"


async def test_environment_is_empty_of_the_host(box: NamespaceSession) -> None:
    result = await box.execute("import os\nsorted(os.environ), open('/proc/1/comm').read()", timeout=5)
    own = await box.execute("open('/proc/self/environ').read()", timeout=5)
    for name in ("OPENAI_API_KEY", "SUPABASE_SECRET_KEY", "PYTEST_CURRENT_TEST"):
        assert name not in result.value + own.value
    assert "'HOME'" in result.value


async def test_ordinary_work_is_done_and_collected(box: NamespaceSession, tmp_path: Path) -> None:
    result = await box.execute(
        "import pandas as pd, matplotlib.pyplot as plt, tempfile, multiprocessing\n"
        "frame = pd.DataFrame({'a': range(5)})\n"
        "frame.to_csv('out.csv'); frame.plot(); plt.savefig('plot.png')\n"
        "with tempfile.NamedTemporaryFile() as f: f.write(b'x')\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(abs, [-1, -2]))\n"
        "int(frame.a.sum())",
        timeout=30,
    )
    assert (result.value, result.stdout) == ("10", "[1, 2]\n"), result.error
    found = await box.collect(tmp_path / "out")
    assert sorted(file.name for file in found) == ["out.csv", "plot.png"]
    assert box.skipped == ()


async def test_inputs_are_shown_read_only_without_copying(boxes: OwnedSandbox) -> None:
    # Beside the boxes' own folder, as a worker's runs are.
    source = boxes.socket_path.parent / "input.csv"
    source.write_text("a,b\n1,2\n")
    source.chmod(0o644)
    try:
        async with await boxes.open(inputs=[_input("daten ü.csv", source)]) as session:
            result = await session.execute("open('inputs/daten ü.csv').read()", timeout=5)
            assert result.value == repr("a,b\n1,2\n"), result.error
            assert source.stat().st_nlink == 2, "it was copied"
            for attempt in (
                "open('inputs/daten ü.csv', 'a')",
                "__import__('os').chmod('inputs/daten ü.csv', 0o777)",
                "__import__('os').remove('inputs/daten ü.csv')",
                "open('inputs/more', 'w')",
            ):
                refused = await session.execute(attempt, timeout=5)
                assert refused.outcome == "error", attempt
                assert "Read-only file system" in refused.error or "Permission denied" in refused.error
        await _until(lambda: source.stat().st_nlink == 1)
        assert source.read_text() == "a,b\n1,2\n"
    finally:
        source.unlink()


async def test_a_private_input_can_be_read(boxes: OwnedSandbox, tmp_path: Path) -> None:
    source = tmp_path / "private.txt"
    source.write_text("mine")
    source.chmod(0o600)
    async with await boxes.open(inputs=[_input("private.txt", source)]) as session:
        assert (await session.execute("open('inputs/private.txt').read()", timeout=5)).value == "'mine'"
    assert source.stat().st_mode & 0o777 == 0o600


async def test_a_session_with_other_limits_gets_a_box_of_its_own(boxes: OwnedSandbox) -> None:
    limits = SandboxLimits(disk_bytes=8 * MIB, memory_bytes=256 * MIB, processes=8, open_files=64)
    async with await boxes.open(limits=limits) as session:
        full = await session.execute(
            "import errno\n"
            "try:\n    open('big', 'wb').write(bytes(9 << 20))\n"
            "except OSError as error: print(errno.errorcode[error.errno])\n"
            "import os; os.path.getsize('big')",
            timeout=10,
        )
        # The file limit or the disk's end, whichever is met first; both are 8 MiB.
        assert full.stdout in ("ENOSPC\n", "EFBIG\n"), full.error
        forks = await session.execute(
            "import os, time\nmade = 0\n"
            "try:\n    while made < 50:\n        if os.fork() == 0: time.sleep(30)\n        made += 1\n"
            "except OSError: pass\nmade",
            timeout=10,
        )
        assert 0 < int(forks.value) <= 8
        files = await session.execute(
            "opened = []\ntry:\n    while True: opened.append(open('/dev/null'))\n"
            "except OSError as error: print(error.errno)",
            timeout=10,
        )
        assert files.stdout == "24\n"
    async with await boxes.open(limits=limits) as session:
        died = await session.execute(
            "x = bytearray(300 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1", timeout=20
        )
        assert died.outcome in ("died", "error")
        assert "MemoryError" in died.error or "256 MiB" in died.error


async def test_memory_hidden_in_temporary_files_counts(boxes: OwnedSandbox) -> None:
    limits = SandboxLimits(memory_bytes=128 * MIB, disk_bytes=512 * MIB)
    async with await boxes.open(limits=limits) as session:
        died = await session.execute(
            "import time\nwith open('/tmp/hidden', 'wb') as f:\n"
            "    for _ in range(300): f.write(bytes(1 << 20))\ntime.sleep(5)",
            timeout=20,
        )
        assert died.outcome == "died"
        assert "128 MiB of memory" in died.error


async def test_many_files_are_too_many(boxes: OwnedSandbox) -> None:
    async with await boxes.open(limits=SandboxLimits(inodes=200)) as session:
        died = await session.execute(
            "import time\nfor n in range(5000): open(f'f{n}', 'w').close()\ntime.sleep(5)", timeout=20
        )
        assert died.outcome == "died"
        assert "inodes" in died.error
        assert "200" in died.error


async def test_a_timeout_keeps_variables_and_a_close_keeps_nothing(boxes: OwnedSandbox) -> None:
    folder = boxes.socket_path.with_suffix(".boxes")
    async with await boxes.open() as session:
        await session.execute("x = 41", timeout=5)
        assert (await session.execute("while True: pass", timeout=0.3)).outcome == "timeout"
        assert (await session.execute("x + 1", timeout=5)).value == "42"
        await session.execute("import subprocess; p = subprocess.Popen(['sleep', '600'])", timeout=5)
        async with asyncio.timeout(5):
            while not (mine := {pid for pid in _below(os.getpid()) if _named(pid) == "sleep"}):
                await asyncio.sleep(0.02)  # what /proc lists is not one moment's
    await _until(lambda: not {pid for pid in mine if not _gone(pid)})
    await _until(lambda: len(list(folder.iterdir())) <= 2)


def _named(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def test_runners_need_only_the_socket(boxes: OwnedSandbox) -> None:
    sandbox = connect_sandbox(boxes.socket_path)
    assert sandbox.tier == boxes.tier == "bwrap"
    async with await sandbox.open(seed=1) as first, await sandbox.open(seed=1) as second:
        draw = "import random, numpy\nrandom.random(), float(numpy.random.rand())"
        one, two = await first.execute(draw, timeout=5), await second.execute(draw, timeout=5)
        assert one.value == two.value != ""


async def test_a_killed_box_is_replaced_and_its_session_says_so(boxes: OwnedSandbox) -> None:
    async with await boxes.open() as session:
        running = asyncio.create_task(session.execute("import time; time.sleep(30)", timeout=60))
        await asyncio.sleep(0.2)
        for pid in _below(os.getpid()):
            if _named(pid) == "bwrap":
                os.kill(pid, signal.SIGKILL)  # the prepared ones as well
        assert (await running).outcome == "died"
    async with await boxes.open() as again:
        assert (await again.execute("1 + 1", timeout=5)).value == "2"


async def test_sixteen_at_once_all_work(boxes: OwnedSandbox) -> None:
    async def one(number: int) -> str:
        async with await boxes.open() as session:
            return (await session.execute(f"{number} * 2", timeout=20)).value

    assert await asyncio.gather(*(one(number) for number in range(16))) == [
        str(number * 2) for number in range(16)
    ]


async def test_rubbish_at_the_socket_harms_nobody(boxes: OwnedSandbox, box: NamespaceSession) -> None:
    for rubbish in (b"", b"\xff" * 64, b"\0\0\0\2[]", b"\0\0\0\x02{}", b'\0\0\0\x0d{"inputs":12}'):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(boxes.socket_path))
            client.sendall(rubbish)
    async with await boxes.open() as other:
        assert (await other.execute("2", timeout=5)).value == "2"
    assert (await box.execute("1", timeout=5)).value == "1"


async def test_killed_owner_leaves_no_process_and_its_successor_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "state" / "box.sock"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path), BUSY],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert owner.stdout is not None
    assert await asyncio.to_thread(owner.stdout.readline) == "busy\n"
    family = _below(owner.pid)
    assert len(family) >= 6  # bwrap, init, REPL, three children; a prepared box may be there
    owner.kill()
    await asyncio.to_thread(owner.communicate)
    await _until(lambda: all(_gone(process) for process in family), seconds=2)
    left = path.with_suffix(".boxes")
    assert list(left.iterdir())
    async with bwrap_sandbox(path, SandboxOptions(warm=1), probe=False):
        assert len(list(left.iterdir())) <= 1
    assert not left.exists()
    assert list(path.parent.iterdir()) == []
