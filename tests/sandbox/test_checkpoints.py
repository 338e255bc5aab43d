"""The state before a piece of code: returned to on demand, and by itself when the code's process dies."""

from __future__ import annotations

import os
import time

import pytest

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.limits import SandboxLimits

pytestmark = pytest.mark.asyncio(loop_scope="session")
MIB = 1 << 20


async def value(session: NamespaceSession, code: str) -> str:
    result = await session.execute(code, timeout=5)
    assert result.outcome == "ok", result.error
    return result.value


async def test_rollback_returns_to_the_variables_before(session: NamespaceSession) -> None:
    await session.execute("a = [1]", timeout=5)
    result = await session.execute(
        "a.append(2); b = 3; open('left', 'w').close()", timeout=5, checkpoint=True
    )
    assert (result.outcome, result.rolled_back) == ("ok", False)
    assert await session.rollback() is True
    assert await value(session, "a, 'b' in globals()") == "([1], False)"
    assert await value(session, "import os; os.listdir()") == "['left']"


async def test_rollback_after_an_error_and_again_after_the_next_try(session: NamespaceSession) -> None:
    await session.execute("a = 1", timeout=5)
    for _ in range(3):
        result = await session.execute("a += 1; 1 / 0", timeout=5, checkpoint=True)
        assert result.outcome == "error"
        assert await session.rollback() is True
    assert await value(session, "a") == "1"


async def test_without_a_checkpoint_there_is_nothing_to_return_to(session: NamespaceSession) -> None:
    await session.execute("a = 1", timeout=5)
    assert await session.rollback() is False
    assert await value(session, "a") == "1"


async def test_a_state_is_returned_to_once(session: NamespaceSession) -> None:
    await session.execute("a = 1", timeout=5, checkpoint=True)
    assert await session.rollback() is True
    assert await session.rollback() is False
    assert await value(session, "'a' in globals()") == "False"


async def test_after_a_success_the_next_code_lets_the_state_go(session: NamespaceSession) -> None:
    await session.execute("a = 1", timeout=5, checkpoint=True)
    assert await value(session, "a") == "1"
    assert await session.rollback() is False


async def test_after_a_failure_a_look_around_keeps_the_state(session: NamespaceSession) -> None:
    await session.execute("a = 1", timeout=5)
    await session.execute("a = 2; 1 / 0", timeout=5, checkpoint=True)
    assert await value(session, "a") == "2"
    assert await session.rollback() is True
    assert await value(session, "a") == "1"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os._exit(7)", "status 7"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        (
            "import threading, os, time\nthreading.Thread(target=os._exit, args=(9,)).start(); time.sleep(5)",
            "9",
        ),
    ],
)
async def test_a_death_ends_in_the_state_before(code: str, words: str, session: NamespaceSession) -> None:
    await session.execute("kept = {'a': 1}", timeout=5)
    result = await session.execute(f"kept['a'] = 2\n{code}", timeout=5, checkpoint=True)
    assert (result.outcome, result.rolled_back) == ("died", True)
    assert words in result.error
    assert "as before this code" in result.error
    assert await value(session, "kept") == "{'a': 1}"
    again = await session.execute("kept['a'] = 3\nimport os; os._exit(1)", timeout=5, checkpoint=True)
    assert again.rolled_back
    assert await value(session, "kept") == "{'a': 1}"


async def test_a_death_without_a_checkpoint_is_the_end(session: NamespaceSession) -> None:
    await session.execute("a = 1", timeout=5, checkpoint=True)
    assert await value(session, "a") == "1"  # lets the state go
    result = await session.execute("import os; os._exit(7)", timeout=5)
    assert (result.outcome, result.rolled_back) == ("died", False)
    with pytest.raises(SandboxDiedError, match="status 7"):
        await session.rollback()


async def test_memory_beyond_the_limit_ends_the_code_only(sandbox: NamespaceSandbox) -> None:
    async with await sandbox.open(limits=SandboxLimits(memory_bytes=150 * MIB)) as session:
        await session.execute("kept = bytearray(b'k' * (20 << 20))", timeout=5)
        code = (
            "import os, time\n"
            "for _ in range(8):\n"
            "    if os.fork() == 0:\n"
            "        b = bytearray(os.urandom(1 << 20) * 40); time.sleep(30)\n"
            "time.sleep(30)"
        )
        result = await session.execute(code, timeout=10, checkpoint=True)
        assert (result.outcome, result.rolled_back) == ("died", True)
        assert "150 MiB" in result.error
        assert "memory_bytes" in result.error
        assert await value(session, "len(kept)") == str(20 * MIB)


async def test_cpu_time_beyond_the_limit_ends_the_code_only(sandbox: NamespaceSandbox) -> None:
    async with await sandbox.open(limits=SandboxLimits(cpu_seconds=1)) as session:
        await session.execute("kept = 1", timeout=5)
        result = await session.execute("while True: pass", timeout=10, checkpoint=True)
        assert (result.outcome, result.rolled_back) == ("died", True)
        assert "1 seconds of CPU" in result.error
        assert await value(session, "kept") == "1"


async def test_code_that_ignores_the_interrupt_ends_in_the_state_before(session: NamespaceSession) -> None:
    await session.execute("kept = 1", timeout=5)
    code = "kept = 2\nimport time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass"
    result = await session.execute(code, timeout=0.2, checkpoint=True)
    assert (result.outcome, result.rolled_back) == ("died", True)
    assert "0.2 seconds" in result.error
    assert await value(session, "kept") == "1"


async def test_rubbish_on_the_channel_ends_in_the_state_before(session: NamespaceSession) -> None:
    await session.execute("kept = 1", timeout=5)
    code = "kept = 2\nimport os, time; os.write(3, b'\\xff' * 64); time.sleep(5)"
    result = await session.execute(code, timeout=3, checkpoint=True)
    assert (result.outcome, result.rolled_back) == ("died", True)
    assert "control channel" in result.error
    assert await value(session, "kept") == "1"


async def test_a_rolled_back_session_can_be_interrupted(session: NamespaceSession) -> None:
    await session.execute("a = 1", timeout=5)
    await session.execute("import os; os._exit(1)", timeout=5, checkpoint=True)
    result = await session.execute("while True: pass", timeout=0.2)
    assert result.outcome == "timeout"
    assert await value(session, "a") == "1"


async def test_rollback_ends_threads_and_processes_of_the_code(session: NamespaceSession) -> None:
    code = (
        "import subprocess, threading, time\n"
        "threading.Thread(target=lambda: time.sleep(60), daemon=True).start()\n"
        "children = [subprocess.Popen(['sleep', '60'], start_new_session=True) for _ in range(3)]"
    )
    await session.execute(code, timeout=5, checkpoint=True)
    assert await session.rollback()
    listed = "import os; {n for n in os.listdir('/proc') if n.isdigit()} == {'1', str(os.getpid())}"
    assert await value(session, listed) == "True"


async def test_a_fork_bomb_is_rolled_back(sandbox: NamespaceSandbox) -> None:
    async with await sandbox.open(limits=SandboxLimits(processes=30)) as session:
        await session.execute("kept = 1", timeout=5)
        code = (
            "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nmain = os.getpid()\n"
            "while True:\n    try: os.fork()\n    except OSError:\n        if os.getpid() == main: break"
        )
        await session.execute(code, timeout=5, checkpoint=True)
        assert await session.rollback()
        assert await value(session, "kept") == "1"


async def test_threads_of_earlier_steps_live_on_in_the_code(session: NamespaceSession) -> None:
    start = (
        "import threading, time\nticks = 0\n"
        "def tick():\n    global ticks\n    while True:\n        ticks += 1\n        time.sleep(0.01)\n"
        "threading.Thread(target=tick, daemon=True).start()"
    )
    await session.execute(start, timeout=5)
    seen = "before = ticks; time.sleep(0.1); ticks > before"
    assert (await session.execute(seen, timeout=5, checkpoint=True)).value == "True"
    assert await session.rollback()
    assert (await session.execute(seen, timeout=5, checkpoint=True)).value == "False"  # threads are not kept


async def test_the_kept_state_is_no_child_of_the_code(session: NamespaceSession) -> None:
    code = "import os\ntry: found = os.wait()\nexcept ChildProcessError: found = None\nfound"
    result = await session.execute(code, timeout=2, checkpoint=True)
    assert (result.outcome, result.value) == ("ok", "")


async def test_the_limit_of_processes_counts_what_the_code_starts(sandbox: NamespaceSandbox) -> None:
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
    async with await sandbox.open(limits=SandboxLimits(processes=8)) as session:
        for _ in range(3):
            result = await session.execute(code, timeout=5, checkpoint=True)
            assert 5 <= int(result.value) <= 8
            assert await session.rollback()


HOSTILE = {
    "registers nonsense": "for n in (0, 1, -1, 2**40, 999999): k.send(b'at %d' % n)",
    "registers itself": "k.send(b'new'); k.recv(9); k.send(b'at %d' % os.getpid())",
    "floods": (
        "k.setblocking(False)\nfor _ in range(5000):\n"
        "    try: k.send(b'new')\n    except BlockingIOError: break"
    ),
    "registers init": "k.send(b'new'); k.recv(9); k.send(b'at 1')",
    "registers a sleeper": (
        "import subprocess\nk.send(b'new'); socket.recv_fds(k, 9, 1)\n"
        "k.send(b'at %d' % subprocess.Popen(['sleep', '60']).pid)"
    ),
    "closes it": "k.close()",
    "drops the state": "k.send(b'drop')",
    "sends descriptors": "for _ in range(20): socket.send_fds(k, [b'new'], [0] * 50)",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
async def test_hostile_code_on_the_way_to_init_harms_its_own_session_only(
    name: str, sandbox: NamespaceSandbox
) -> None:
    session = await sandbox.open()
    find = (
        "import os, socket\n"
        "def find():\n"
        "    for n in map(int, os.listdir('/proc/self/fd')):\n"
        "        try: s = socket.socket(fileno=n)\n"
        "        except OSError: continue\n"
        "        if s.type == socket.SOCK_SEQPACKET: return s\n"
        "        s.detach()\n"
        "k = find(); k.type\n"
    )
    began = time.monotonic()
    await session.execute(find + HOSTILE[name], timeout=3, checkpoint=True)
    for _ in range(2):
        try:
            await session.rollback()
            await session.execute("1", timeout=1, checkpoint=True)
            await session.execute("import os; os._exit(1)", timeout=1)
        except SandboxDiedError:
            break
    await session.close()
    assert time.monotonic() - began < 20
    async with await sandbox.open() as other:
        assert await value(other, "6 * 7") == "42"


async def test_checkpoints_leave_no_descriptor_on_the_host(session: NamespaceSession) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await session.execute("x = 1", timeout=5, checkpoint=True)
        assert await session.rollback()
        await session.execute("os = __import__('os'); os._exit(1)", timeout=5, checkpoint=True)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_checkpoint_with_a_large_array_costs_little(session: NamespaceSession) -> None:
    await session.execute("import numpy; a = numpy.ones(40_000_000)", timeout=5)
    spent = sorted([(await session.execute("1", timeout=5, checkpoint=True)).seconds for _ in range(7)])
    assert spent[3] < 0.1
