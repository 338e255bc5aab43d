"""Programs that use too much, where no namespace and no mount counts it: the limit is named."""

from __future__ import annotations

import os
import subprocess

import pytest

from pythonic_assistant.adapters.sandbox.inside import usage
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.domain.limits import SandboxLimits

pytestmark = pytest.mark.asyncio(loop_scope="session")
MIB = 1 << 20
_FORK_BOMB = "import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)"
_MANY = (
    "import os, time\nfor _ in range(30):\n    try:\n        if os.fork() == 0: time.sleep(60)\n"
    "    except OSError: pass\ntime.sleep(30)"
)
_COUNT = (
    "import os, time\nmade = 0\ntry:\n    for _ in range(50):\n        if os.fork() == 0: time.sleep(60)\n"
    "        made += 1\nexcept BlockingIOError: pass\nmade"
)


async def _ends(sandbox: NamespaceSandbox, limits: SandboxLimits, code: str) -> str:
    async with await sandbox.open(limits=limits) as session:
        result = await session.execute(code, timeout=15)
        assert result.outcome == "died", result
        return result.error


@pytest.mark.parametrize(
    "code",
    [
        "import time\nfor n in range(40):\n    open(f'f{n}', 'wb').write(os.urandom(1 << 20))\ntime.sleep(9)",
        # without a name: removed while open, never named, and mapped after that
        "kept = []\nfor n in range(3):\n    f = open('f', 'wb'); kept.append(f); os.unlink('f')\n"
        "    f.write(os.urandom(7 << 20)); f.flush()\nimport time; time.sleep(9)",
        "kept = [os.open('.', os.O_TMPFILE | os.O_RDWR) for _ in range(5)]\n"
        "for d in kept: os.write(d, os.urandom(3 << 20))\nimport time; time.sleep(9)",
        "import mmap\nmaps = []\nfor n in range(5):\n    f = open(f'f{n}', 'w+b')\n"
        "    f.write(os.urandom(3 << 20)); f.flush(); os.unlink(f.name)\n"
        "    maps.append(mmap.mmap(f.fileno(), 0))\n"
        # a mapping keeps a descriptor of its own, which can be found and closed
        "    f.close()\nfor d in range(5, 60):\n    try: os.close(d)\n    except OSError: pass\n"
        "import time; time.sleep(9)",
    ],
    ids=["files", "removed", "nameless", "mapped"],
)
async def test_disk_is_limited(sandbox: NamespaceSandbox, code: str) -> None:
    error = await _ends(sandbox, SandboxLimits(disk_bytes=8 * MIB), "import os\n" + code)
    assert "8 MiB" in error
    assert "disk_bytes" in error


async def test_number_of_files_is_limited(sandbox: NamespaceSandbox) -> None:
    code = "import time\nfor n in range(200): open(f'f{n}', 'w').close()\ntime.sleep(9)"
    assert "50 files and folders" in await _ends(sandbox, SandboxLimits(inodes=50), code)


async def test_one_file_cannot_outgrow_the_disk(sandbox: NamespaceSandbox) -> None:
    async with await sandbox.open(limits=SandboxLimits(disk_bytes=4 * MIB)) as session:
        result = await session.execute("open('f', 'wb').write(bytes(50 << 20))", timeout=5)
        assert result.outcome in ("error", "died")
        assert "File too large" in result.error or "disk_bytes" in result.error


async def test_memory_of_many_processes_together_ends_the_session(sandbox: NamespaceSandbox) -> None:
    code = (
        "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n"
        "        b = bytearray(os.urandom(1 << 20) * 40); time.sleep(30)\ntime.sleep(30)"
    )
    assert "150 MiB" in await _ends(sandbox, SandboxLimits(memory_bytes=150 * MIB), code)


async def test_memory_of_orphans_counts(sandbox: NamespaceSandbox) -> None:
    code = (
        "import os, time\nif os.fork() == 0:\n    for _ in range(6):\n        if os.fork() == 0:\n"
        "            b = bytearray(os.urandom(1 << 20) * 40); time.sleep(30)\n    os._exit(0)\ntime.sleep(30)"
    )
    assert "150 MiB" in await _ends(sandbox, SandboxLimits(memory_bytes=150 * MIB), code)


async def test_fork_bomb_is_ended_and_others_go_on(sandbox: NamespaceSandbox) -> None:
    async with (
        await sandbox.open() as other,
        await sandbox.open(limits=SandboxLimits(processes=12)) as hostile,
    ):
        result = await hostile.execute(_FORK_BOMB, timeout=2)
        assert result.outcome in ("timeout", "died")
        run = "import subprocess; subprocess.run(['true']).returncode"
        assert (await other.execute(run, timeout=10)).value == "0"


async def test_processes_have_a_limit(sandbox: NamespaceSandbox) -> None:
    """Exact by the kernel for a session's own user; else the session ends."""
    async with await sandbox.open(limits=SandboxLimits(processes=8)) as session:
        users = sandbox.details["users"]
        if users == "one":
            result = await session.execute(_MANY, timeout=5)
            assert result.outcome == "died"
            assert "8 processes" in result.error
        else:
            result = await session.execute(_COUNT, timeout=5)
            assert 5 <= int(result.value) <= 8


async def test_cpu_time_is_limited(sandbox: NamespaceSandbox) -> None:
    assert "1 seconds of CPU" in await _ends(sandbox, SandboxLimits(cpu_seconds=1), "while True: pass")


async def test_interrupt_keeps_variables(sandbox: NamespaceSandbox) -> None:
    async with await sandbox.open() as session:
        await session.execute("kept = 41", timeout=5)
        assert (await session.execute("while True: pass", timeout=0.2)).outcome == "timeout"
        assert (await session.execute("kept + 1", timeout=5)).value == "42"


async def test_who_hides_its_files_is_ended(sandbox: NamespaceSandbox) -> None:
    code = (
        "import os, shutil, subprocess\nshutil.copyfile('/bin/sleep', 'hidden')\n"
        "os.chmod('hidden', 0o111)\nsubprocess.run(['./hidden', '9'])"
    )
    async with await sandbox.open() as session:
        result = await session.execute(code, timeout=15)
        # As the owner of other files, the code's chmod does nothing, and the programme cannot be run at all.
        assert "hid its open files" in result.error or "Permission denied" in result.error


async def test_a_process_that_has_ended_is_not_taken_for_one_that_hides() -> None:
    """An ordinary user cannot read the descriptors of a process that nobody has waited for yet."""
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert not usage._is_hidden(child.pid)
        assert usage._is_ending(child.pid)
        assert not usage._is_ending(os.getpid())
    finally:
        child.wait()
