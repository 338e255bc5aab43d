"""Programs that use too much: the limit is named, and other sessions do not notice."""

from __future__ import annotations

import time

import pytest

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.errors import InvalidInputError, SandboxDiedError
from pythonic_assistant.domain.limits import SandboxLimits

pytestmark = pytest.mark.asyncio(loop_scope="session")
MIB = 1 << 20


async def test_timeout_keeps_variables(session: NamespaceSession) -> None:
    await session.execute("kept = 41", timeout=5)
    result = await session.execute("while True: pass", timeout=0.2)
    assert result.outcome == "timeout"
    assert "0.2 seconds, the limit of one step (execution_seconds)" in result.error
    assert 0.15 < result.seconds < 1.0
    assert (await session.execute("kept + 1", timeout=5)).value == "42"


async def test_code_that_ignores_the_interrupt_is_killed(session: NamespaceSession) -> None:
    code = "import time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass"
    result = await session.execute(code, timeout=0.2)
    assert result.outcome == "died"
    assert "0.2 seconds" in result.error
    assert result.seconds < 2.0
    with pytest.raises(SandboxDiedError, match=r"0\.2 seconds"):
        await session.execute("1", timeout=1)


async def test_swallowed_interrupt_is_still_a_timeout(session: NamespaceSession) -> None:
    code = "import time\ntry: time.sleep(9)\nexcept BaseException:\n    x = 'went on'"
    result = await session.execute(code, timeout=0.2)
    assert result.outcome == "timeout"
    assert (await session.execute("x", timeout=1)).value == "'went on'"


async def test_one_large_allocation_is_an_error_and_variables_survive(sandbox: NamespaceSandbox) -> None:
    session = await sandbox.open(limits=SandboxLimits(memory_bytes=200 * MIB))
    await session.execute("kept = 1", timeout=5)
    result = await session.execute("import numpy; numpy.ones(300_000_000)", timeout=5)
    assert result.outcome == "error"
    assert "MemoryError" in result.error
    assert "200 MiB of memory, the limit of a session (memory_bytes). Work in smaller" in result.error
    assert (await session.execute("kept", timeout=5)).value == "1"
    await session.close()


async def test_memory_of_many_processes_together_ends_the_session(sandbox: NamespaceSandbox) -> None:
    session = await sandbox.open(limits=SandboxLimits(memory_bytes=150 * MIB))
    code = (
        "import os, time\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        b = bytearray(os.urandom(1 << 20) * 40); time.sleep(30)\n"
        "time.sleep(30)"
    )
    result = await session.execute(code, timeout=10)
    assert result.outcome == "died"
    assert "150 MiB of memory, the limit of a session (memory_bytes" in result.error
    await session.close()


async def test_files_count_as_memory_and_disk_is_limited(sandbox: NamespaceSandbox) -> None:
    session = await sandbox.open(limits=SandboxLimits(disk_bytes=4 * MIB))
    result = await session.execute(
        "for n in range(10):\n    open(f'f{n}', 'wb').write(bytes(1 << 20))", timeout=5
    )
    assert result.outcome == "error"
    assert "No space left" in result.error
    assert "4 MiB together, the limit of a session (disk_bytes). Remove" in result.error
    shared = await session.execute("open('/tmp/more', 'wb').write(bytes(1 << 20))", timeout=5)
    assert "No space left" in shared.error
    await session.close()


async def test_number_of_files_is_limited(sandbox: NamespaceSandbox) -> None:
    session = await sandbox.open(limits=SandboxLimits(inodes=50))
    result = await session.execute("for n in range(100): open(f'f{n}', 'w').close()", timeout=5)
    assert "No space left" in result.error
    assert "50 files and folders, the limit of a session (inodes). Remove" in result.error
    await session.close()


async def test_fork_bomb_is_contained(sandbox: NamespaceSandbox) -> None:
    hostile = await sandbox.open(limits=SandboxLimits(processes=12))
    code = "import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)"
    result = await hostile.execute(code, timeout=0.5)
    assert result.outcome in ("timeout", "died")
    other = await sandbox.open()
    assert (
        await other.execute("import subprocess; subprocess.run(['true']).returncode", timeout=5)
    ).value == "0"
    await other.close()
    await hostile.close()


async def test_processes_have_a_limit(sandbox: NamespaceSandbox) -> None:
    session = await sandbox.open(limits=SandboxLimits(processes=8))
    code = """
import os, time
made = 0
try:
    for _ in range(50):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except BlockingIOError:
    pass
made
"""
    result = await session.execute(code, timeout=5)
    assert result.outcome == "ok", result.error
    assert 5 <= int(result.value) <= 8
    await session.close()


@pytest.mark.parametrize(
    "code",
    [
        "import os, time\nfor _ in range(50):\n    if os.fork() == 0: time.sleep(60)",
        "import threading, time\ndef run(): time.sleep(60)\n"
        "for _ in range(50): threading.Thread(target=run, daemon=True).start()",
        "import subprocess\nkept = [subprocess.Popen(['sleep', '60']) for _ in range(50)]",
    ],
)
async def test_too_many_processes_are_told_with_their_limit(sandbox: NamespaceSandbox, code: str) -> None:
    async with await sandbox.open(limits=SandboxLimits(processes=12)) as session:
        result = await session.execute(code, timeout=10)
        assert result.outcome == "error"
        assert "12 processes and threads at a time, the limit of a session (processes). Start" in result.error


async def test_a_file_that_is_too_large_is_told_with_its_limit(sandbox: NamespaceSandbox) -> None:
    async with await sandbox.open(limits=SandboxLimits(disk_bytes=4 * MIB)) as session:
        result = await session.execute("open('f', 'wb').truncate(5 << 20)", timeout=5)
        assert result.outcome in ("error", "died")
        assert "4 MiB" in result.error
        assert "disk_bytes" in result.error


async def test_errors_that_no_limit_caused_are_left_alone(session: NamespaceSession) -> None:
    result = await session.execute("raise ValueError('[Errno 2] no such file')", timeout=5)
    assert result.error.rstrip().endswith("ValueError: [Errno 2] no such file")
    handled = "try:\n    raise OSError(24, 'x')\nexcept OSError:\n    pass\nraise KeyError('a')"
    assert (await session.execute(handled, timeout=5)).error.rstrip().endswith("KeyError: 'a'")


async def test_cpu_time_is_limited(sandbox: NamespaceSandbox) -> None:
    session = await sandbox.open(limits=SandboxLimits(cpu_seconds=1))
    result = await session.execute("while True: pass", timeout=10)
    assert result.outcome == "died"
    assert "1 seconds of CPU time, the limit of a process in a session (cpu_seconds)" in result.error
    await session.close()


async def test_flood_of_output_is_cut(sandbox: NamespaceSandbox) -> None:
    session = await sandbox.open(limits=SandboxLimits(output_bytes=10_000))
    pieces: list[str] = []
    result = await session.execute(
        "import sys\nfor _ in range(3000): print('x' * 1000)\nprint('e', file=sys.stderr)\n'done'",
        timeout=5,
        on_output=lambda _, text: pieces.append(text),
    )
    assert result.outcome == "ok"
    assert result.truncated
    told = result.stderr.partition("\n[cut: ")[2]
    assert "10,000 bytes" in told
    assert "output_bytes" in told
    assert len(result.stdout) + len(result.stderr) - len(told) <= 10_000 + len("\n[cut: ")
    assert "".join(pieces).startswith("xxx")
    assert result.value == "'done'"
    after = await session.execute("print('fresh')", timeout=5)
    assert (after.stdout, after.truncated) == ("fresh\n", False)
    await session.close()


async def test_open_files_are_limited(sandbox: NamespaceSandbox) -> None:
    session = await sandbox.open(limits=SandboxLimits(open_files=40))
    result = await session.execute("kept = [open('/dev/null') for _ in range(60)]", timeout=5)
    assert "Too many open files" in result.error
    assert "40 open files, the limit of a session (open_files). Close" in result.error
    await session.close()


@pytest.mark.parametrize("limits", [SandboxLimits(memory_bytes=0), SandboxLimits(processes=-1)])
async def test_impossible_limit_is_refused(sandbox: NamespaceSandbox, limits: SandboxLimits) -> None:
    with pytest.raises(InvalidInputError, match="must be at least"):
        await sandbox.open(limits=limits)


async def test_hostile_session_does_not_slow_the_others(sandbox: NamespaceSandbox) -> None:
    hostile = await sandbox.open()
    good = await sandbox.open()
    await hostile.execute(
        "import threading\nfor _ in range(4):\n"
        "    threading.Thread(target=lambda: exec('while 1: pass'), daemon=True).start()",
        timeout=5,
    )
    began = time.monotonic()
    assert (await good.execute("sum(range(100000))", timeout=5)).value == "4999950000"
    assert time.monotonic() - began < 1.0
    await hostile.close()
    await good.close()
