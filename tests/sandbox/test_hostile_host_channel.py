"""What generated code may do to the host through the channels that it holds."""

from __future__ import annotations

import pytest

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.errors import SandboxDiedError

pytestmark = pytest.mark.asyncio(loop_scope="session")

GARBAGE = {
    "not json": "os.write(3, struct.pack('!I', 4) + b'abcd')",
    "too large": "os.write(3, struct.pack('!I', 0xFFFFFFFF))",
    "nested": (
        "d = b'[' * 200000\nos.write(3, struct.pack('!I', len(d)))\n"
        "for i in range(0, len(d), 50000): os.write(3, d[i:i+50000])"
    ),
    "a list": "os.write(3, struct.pack('!I', 2) + b'[]')",
    "no id": "d = b'{\"ok\": true}'\nos.write(3, struct.pack('!I', len(d)) + d)",
    "bytes that are no text": "os.write(3, struct.pack('!I', 3) + b'\\xff\\xfe\\xfd')",
    "huge number": "d = b'9' * 10000\nos.write(3, struct.pack('!I', len(d)) + d)",
    "closed": "os.close(3)",
}


@pytest.mark.parametrize("name", sorted(GARBAGE))
async def test_garbage_ends_the_session_only(
    name: str, session: NamespaceSession, sandbox: NamespaceSandbox
) -> None:
    result = await session.execute(f"import os, struct, time\n{GARBAGE[name]}\ntime.sleep(4)", timeout=3)
    assert result.outcome == "died"
    assert "control channel" in result.error
    with pytest.raises(SandboxDiedError):
        await session.execute("1", timeout=1)
    other = await sandbox.open()
    assert (await other.execute("6 * 7", timeout=5)).value == "42"
    await other.close()


async def test_forged_answer_cannot_break_types(session: NamespaceSession) -> None:
    code = (
        "import json, os, struct\n"
        "d = json.dumps({'id': 1, 'ok': True, 'value': ['no text'], 'error': {'a': 1}}).encode()\n"
        "os.write(3, struct.pack('!I', len(d)) + d)"
    )
    result = await session.execute(code, timeout=3)
    assert (result.outcome, result.value, result.error) == ("ok", "", "")


async def test_forged_descriptors_do_not_reach_the_host(session: NamespaceSession) -> None:
    import os

    before = len(os.listdir("/proc/self/fd"))
    code = (
        "import json, socket, struct\n"
        "d = json.dumps({'id': 1, 'ok': True}).encode()\n"
        "s = socket.socket(fileno=3)\n"
        "socket.send_fds(s, [struct.pack('!I', len(d)) + d], [0] * 100)\ns.detach()"
    )
    result = await session.execute(code, timeout=3)
    assert result.outcome == "ok"
    assert len(os.listdir("/proc/self/fd")) == before


async def test_lone_surrogates_and_nul_survive_as_text(session: NamespaceSession) -> None:
    result = await session.execute(r"print('\ud800'); '\ud800' + chr(0)", timeout=3)
    result.value.encode()
    assert result.stdout == "?\n"


@pytest.mark.parametrize("body", ["while True: pass", "raise RuntimeError('no')", "import os; os._exit(3)"])
async def test_hostile_repr(body: str, session: NamespaceSession) -> None:
    await session.execute(
        f"class Bad:\n    def __repr__(self):\n        {body}\nbad = Bad()\ngood = 5", timeout=5
    )
    if "raise" in body:
        described = {v.name: v for v in await session.variables()}
        assert "cannot be described: RuntimeError" in described["bad"].summary
        assert described["good"].summary == "5"
        result = await session.execute("bad", timeout=2)
        assert "RuntimeError: no" in result.error
        return
    result = await session.execute("bad", timeout=0.2)
    assert result.outcome in ("timeout", "died")


async def test_hostile_exception(session: NamespaceSession) -> None:
    code = "class E(Exception):\n    def __str__(self): raise E\nraise E"
    result = await session.execute(code, timeout=3)
    assert result.outcome == "error"
    assert "E" in result.error
    assert (await session.execute("1", timeout=3)).value == "1"


async def test_deep_recursion_is_an_error(session: NamespaceSession) -> None:
    result = await session.execute("def f(): return f()\nf()", timeout=3)
    assert "RecursionError" in result.error
    nested = await session.execute("(" * 5000 + ")" * 5000, timeout=3)
    assert nested.outcome == "error"
    assert (await session.execute("1", timeout=3)).value == "1"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os._exit(7)", "status 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ],
)
async def test_end_is_told_with_its_reason(code: str, words: str, session: NamespaceSession) -> None:
    result = await session.execute(code, timeout=3)
    assert result.outcome == "died"
    assert words in result.error


async def test_exit_is_an_error_and_variables_survive(session: NamespaceSession) -> None:
    result = await session.execute("kept = 3\nexit(2)", timeout=3)
    assert result.outcome == "error"
    assert "SystemExit: 2" in result.error
    assert (await session.execute("kept", timeout=3)).value == "3"


async def test_forked_child_does_not_answer_twice(session: NamespaceSession) -> None:
    assert (await session.execute("import os\np = os.fork()\n'once'", timeout=3)).value == "'once'"
    assert (await session.execute("2 + 2", timeout=3)).value == "4"
