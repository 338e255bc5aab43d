"""Control groups: the kernel counts what a session uses, where it lets us make groups.

Version 1 is tried out where the machine has it and the tests run as root; of version 2 only what is written
is looked at, in a folder of our own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox import connect_sandbox
from pythonic_assistant.adapters.sandbox.inside import cgroup
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess
from pythonic_assistant.domain.limits import SandboxLimits

pytestmark = pytest.mark.asyncio(loop_scope="session")
MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]
OWNER = """
import asyncio
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess
from pythonic_assistant.adapters.sandbox import connect_sandbox
async def main():
    async with ZygoteProcess() as zygote:
        session = await connect_sandbox(zygote.socket_path).open()
        await session.execute("1", timeout=9)
        print(zygote.pid, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


async def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def _groups(owner: int | None = None) -> list[Path]:
    """The groups of sessions that exist now, of one attendant or of all."""
    prefix = cgroup.PREFIX + (f"{owner}-" if owner else "")
    return [
        found
        for hierarchy in cgroup.hierarchies_of(Path("/proc"))
        for found in hierarchy.folder.glob(f"{prefix}*")
    ]


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(process for child in children for process in _family(int(child)))]


def _group_of(process: int) -> str:
    lines = Path(f"/proc/{process}/cgroup").read_text().splitlines()
    return next((line for line in lines if "memory" in line.split(":")[1]), "")


async def test_all_that_the_code_starts_is_in_its_group(tmp_path: Path) -> None:
    async with ZygoteProcess(tmp_path / "zygote.sock") as zygote:
        assert zygote.pid is not None
        sandbox = connect_sandbox(zygote.socket_path)
        before = set(_family(zygote.pid))
        async with await sandbox.open(limits=SandboxLimits(memory_bytes=99 * MIB)) as session:
            await session.execute("import subprocess; subprocess.Popen(['sleep', '60'])", timeout=5)
            found = {_group_of(process) for process in set(_family(zygote.pid)) - before}
            if zygote.details["memory"] == "watchdog":
                assert not any(cgroup.PREFIX in group for group in found)
                return
            # Session init is outside, and lives to tell that memory ran out.
            (group,) = [name for name in found if cgroup.PREFIX in name]
            code = [p for p in set(_family(zygote.pid)) - before if _group_of(p) == group]
            assert len(code) == len(set(_family(zygote.pid)) - before) - 1
            name = group.rpartition("/")[2]
            folders = [folder for folder in _groups() if folder.name == name]
            assert folders
            limits = [(f / "memory.limit_in_bytes").read_text() for f in folders if "memory" in str(f)]
            assert limits == [f"{(99 + 16) * MIB}\n"]
        await _until(lambda: not any(folder.exists() for folder in folders))


async def test_code_runs_only_inside_its_group(sandbox: NamespaceSandbox) -> None:
    """The session is ready before its process is in the group; the very first line must find it there."""

    async def first_line() -> str:
        async with await sandbox.open() as session:
            return (await session.execute("open('/proc/self/cgroup').read()", timeout=20)).value

    grouped = sandbox.details["memory"] != "watchdog"
    found = await asyncio.gather(*(first_line() for _ in range(16)))
    assert all((cgroup.PREFIX in text) == grouped for text in found), found


async def test_memory_that_grows_faster_than_it_is_sampled_ends_the_session(
    sandbox: NamespaceSandbox,
) -> None:
    """Forty processes with 20 MiB each, within less than the 100 ms between two looks of the watchdog."""
    code = (
        "import os, time\nr, w = os.pipe()\nfor _ in range(40):\n"
        "    if os.fork() == 0:\n        os.read(r, 1); b = b'x' * (20 << 20); time.sleep(30)\n"
        "os.write(w, b'x' * 40)\ntime.sleep(30)"
    )
    session = await sandbox.open(limits=SandboxLimits(memory_bytes=120 * MIB))
    result = await session.execute(code, timeout=20)
    assert result.outcome == "died"
    assert "120 MiB" in result.error
    await session.close()
    async with await sandbox.open() as other:
        assert (await other.execute("1 + 1", timeout=5)).value == "2"


async def test_groups_of_a_killed_zygote_are_removed_at_the_next_start() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert owner.stdout is not None
    family = _family(int(await asyncio.to_thread(owner.stdout.readline)))
    left = [folder for process in family for folder in _groups(process)]
    owner.send_signal(signal.SIGSTOP)  # so that it does not start another
    for process in family:
        os.kill(process, signal.SIGKILL)
    owner.kill()
    await asyncio.to_thread(owner.communicate)
    async with ZygoteProcess() as zygote:
        assert bool(left) == (zygote.details["memory"] != "watchdog")
    for _ in range(5):  # a group goes once the last of its killed processes has given its memory back
        async with ZygoteProcess():
            if not any(folder.exists() for folder in left):
                break
    assert not any(folder.exists() for folder in left)


async def test_killed_attendant_is_replaced_with_its_zygote() -> None:
    async with ZygoteProcess() as zygote:
        if zygote.details["memory"] == "watchdog":
            return
        first = zygote.pid
        assert first is not None
        attendant = int(Path(f"/proc/{first}/task/{first}/children").read_text().split()[0])
        os.kill(attendant, signal.SIGKILL)
        await _until(lambda: zygote.pid not in (first, None), 20)
        async with await connect_sandbox(zygote.socket_path).open() as session:
            assert (await session.execute("1", timeout=5)).value == "1"


def _written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("version", "controllers", "expected"),
    [
        (2, {"memory", "pids"}, {"memory.max": f"{48 * MIB}", "memory.swap.max": "0", "pids.max": "5"}),
        (
            1,
            {"memory"},
            {
                "memory.limit_in_bytes": f"{48 * MIB}",
                "memory.memsw.limit_in_bytes": f"{48 * MIB}",
                "memory.swappiness": "0",
            },
        ),
        (1, {"pids"}, {"pids.max": "5"}),
    ],
)
async def test_limits_are_written(
    tmp_path: Path, version: int, controllers: set[str], expected: dict[str, str]
) -> None:
    hierarchy = cgroup.Hierarchy(folder=tmp_path, controllers=frozenset(controllers), version=version)
    group = cgroup.Groups(hierarchies=(hierarchy,)).make(32 * MIB, 4)
    ((_, folder),) = group.places
    assert _written(folder) == expected
    group.add(123)
    assert (folder / "cgroup.procs").read_text() == "123"


async def test_hierarchies_are_found(tmp_path: Path) -> None:
    """A container of version 2 with controllers that are switched on; and a mixed host."""
    proc, unified, memory = tmp_path / "proc", tmp_path / "unified", tmp_path / "memory"
    (proc / "self").mkdir(parents=True)
    (unified / "own").mkdir(parents=True)
    (memory / "job").mkdir(parents=True)
    mounts = proc / "self/mountinfo"
    groups = proc / "self/cgroup"

    mounts.write_text(f"30 20 0:26 / {unified} rw - cgroup2 cgroup2 rw,nsdelegate\n")
    groups.write_text("0::/own\n")
    assert list(cgroup.hierarchies_of(proc)) == []
    (unified / "own/cgroup.subtree_control").write_text("memory pids\n")
    (found,) = cgroup.hierarchies_of(proc)
    assert (found.folder, found.version) == (unified / "own", 2)
    assert found.controllers == {"memory", "pids"}

    mounts.write_text(f"31 20 0:27 /docker/ab {memory} rw - cgroup cgroup rw,memory\n")
    groups.write_text("4:memory:/docker/ab/job\n0::/\n")
    (found,) = cgroup.hierarchies_of(proc)
    assert (found.folder, found.controllers, found.version) == (memory / "job", {"memory"}, 1)


async def test_deaths_are_read(tmp_path: Path) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n")
    descriptor = os.open(counter, os.O_RDONLY)
    assert cgroup.deaths(descriptor) == 2
    os.close(descriptor)
