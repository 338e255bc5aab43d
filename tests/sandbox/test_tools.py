"""Tools that were granted, called by the code as functions; the host runs them."""

from __future__ import annotations

import asyncio

import pytest

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.ports import Access
from tests.sandbox.granted import Box, value

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_code_calls_tools_as_functions(sandbox: NamespaceSandbox) -> None:
    box = Box()
    async with await sandbox.open(access=Access(toolbox=box)) as session:
        assert await value(session, "add(1, b=2)") == "{'sum': 3, 'text': 'ü', 'list': [None, True]}"
        assert (
            await value(session, "import tools; tools.add(2, 3, how='slow', **{'from': 'x'})['sum']") == "5"
        )
        assert box.calls == [
            ("add", {"a": 1, "b": 2}),
            ("add", {"a": 2, "b": 3, "how": "slow", "from": "x"}),
        ]
        assert [v.name for v in await session.variables()] == []


async def test_help_shows_how_to_call_a_tool(sandbox: NamespaceSandbox) -> None:
    async with await sandbox.open(access=Access(toolbox=Box())) as session:
        shown = (await session.execute("help(add)", timeout=5)).stdout
    assert "add(a: int, b: float | None, how: Literal['fast', 'slow'] = 'fast', **more)" in shown
    for words in ("Add two numbers.", "a: the first", "the sum", "ToolError"):
        assert words in shown


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("add('x', 1)", "ToolError: a must be an integer"),
        ("add(1)", "TypeError: missing a required argument: 'b'"),
        ("add(1, 2, 'fast', 4)", "TypeError: too many positional"),
        ("add(1, object())", "must be JSON values"),
        ("add(1, 'x' * (9 << 20))", "too large"),
        ("large(bytes=9 << 20)", "too large"),
        ("broken()", "failed for a reason of its own"),
    ],
)
async def test_a_tool_that_fails_raises_in_the_code(sandbox: NamespaceSandbox, call: str, words: str) -> None:
    async with await sandbox.open(access=Access(toolbox=Box())) as session:
        result = await session.execute(call, timeout=5)
        assert result.outcome == "error"
        assert words in result.error
        assert "tools.py" not in result.error
        caught = "try: add('x', 1)\nexcept Exception as e: r = type(e).__module__, type(e).__name__\nr"
        assert await value(session, caught) == "('tools', 'ToolError')"
        assert await value(session, "len(large(bytes=7 << 20))") == str(7 << 20)


async def test_threads_take_turns(sandbox: NamespaceSandbox) -> None:
    box = Box()
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "print('x' * 200000)\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    r = list(pool.map(lambda n: add(n, 1, how='slow')['sum'], range(40)))\n"
        "r == list(range(1, 41))"
    )
    async with await sandbox.open(access=Access(toolbox=box)) as session:
        assert await value(session, code, 10) == "True"
    assert box.most_running == 1


async def test_a_call_in_a_forked_child_is_refused(sandbox: NamespaceSandbox) -> None:
    code = (
        "import os\nr, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    try: add(1, 2)\n"
        "    except RuntimeError as e: os.write(w, str(e).encode())\n"
        "    os._exit(0)\n"
        "os.read(r, 200)"
    )
    async with await sandbox.open(access=Access(toolbox=Box())) as session:
        assert "own process only" in await value(session, code)
        assert await value(session, "add(1, 2)['sum']") == "3"


async def test_timeout_interrupts_code_that_waits_for_a_tool(sandbox: NamespaceSandbox) -> None:
    box = Box()
    async with await sandbox.open(access=Access(toolbox=box)) as session:
        await session.execute("kept = 1", timeout=5)
        for _ in range(2):
            result = await session.execute("wait()", timeout=0.2)
            assert result.outcome == "timeout"
        assert box.cancelled == 2
        assert await value(session, "kept, add(1, 2)['sum']") == "(1, 3)"


async def test_timeout_ends_the_call_of_a_thread_too(sandbox: NamespaceSandbox) -> None:
    box = Box()
    start = "import threading; threading.Thread(target=wait, daemon=True).start()"
    async with await sandbox.open(access=Access(toolbox=box)) as session:
        result = await session.execute(start, timeout=0.3)  # a step ends when its calls have ended
        assert result.outcome == "timeout"
        assert box.cancelled == 1
        assert await value(session, "add(1, 2)['sum']") == "3"


async def test_between_steps_no_tool_can_be_called(sandbox: NamespaceSandbox) -> None:
    code = (
        "import threading, time\nfound = []\n"
        "def later():\n"
        "    time.sleep(0.3)\n"
        "    try: found.append(add(1, 2))\n"
        "    except RuntimeError as e: found.append(str(e))\n"
        "threading.Thread(target=later, daemon=True).start()"
    )
    box = Box()
    async with await sandbox.open(access=Access(toolbox=box)) as session:
        await session.execute(code, timeout=5)
        await asyncio.sleep(0.6)
        assert "while a step runs" in await value(session, "found")
    assert box.calls == []


async def test_a_signal_of_the_codes_own_leaves_the_channel_whole(sandbox: NamespaceSandbox) -> None:
    code = (
        "import signal\nclass Late(Exception): pass\n"
        "def ring(*_): raise Late\nsignal.signal(signal.SIGALRM, ring)\n"
        "count = 0\n"
        "for n in range(50):\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.001 + n / 4000)\n"
        "    try: add(n, 1, how='slow')\n"
        "    except Late: count += 1\n"
        "    finally: signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "add(40, 2)['sum']"
    )
    async with await sandbox.open(access=Access(toolbox=Box())) as session:
        assert await value(session, code, 20) == "42"
        assert await value(session, "add(1, 1)['sum'], count > 0") == "(2, True)"


async def test_a_tool_that_runs_when_the_session_ends_is_cancelled(sandbox: NamespaceSandbox) -> None:
    box = Box()
    session = await sandbox.open(access=Access(toolbox=box))
    code = "import threading, os, time\nthreading.Timer(0.2, os._exit, [5]).start()\nwait()"
    result = await session.execute(code, timeout=5)
    assert result.outcome == "died"
    assert box.cancelled == 1
    await session.close()
    assert box.running == 0


async def test_tools_work_after_a_rollback(sandbox: NamespaceSandbox) -> None:
    box = Box()
    async with await sandbox.open(access=Access(toolbox=box)) as session:
        result = await session.execute(
            "import threading, os\nthreading.Timer(0.2, os._exit, [5]).start()\nwait()",
            timeout=5,
            checkpoint=True,
        )
        assert (result.outcome, result.rolled_back, box.cancelled) == ("died", True, 1)
        assert await value(session, "add(1, 2)['sum']") == "3"


@pytest.mark.parametrize(
    "frame",
    [
        "{'op': 'tool', 'call': 1}",
        "{'op': 'tool', 'call': 'x', 'name': 'add', 'arguments': {}}",
        "{'op': 'tool', 'call': 1, 'name': 'add', 'arguments': []}",
        "{'op': 'tool', 'call': None, 'name': None, 'arguments': None}",
    ],
)
async def test_forged_calls_end_the_session_only(sandbox: NamespaceSandbox, frame: str) -> None:
    code = (
        f"import json, os, struct, time\nd = json.dumps({frame}).encode()\n"
        "os.write(3, struct.pack('!I', len(d)) + d)\ntime.sleep(4)"
    )
    async with await sandbox.open(access=Access(toolbox=Box())) as session:
        assert "control channel" in (await session.execute(code, timeout=3)).error
    async with await sandbox.open() as session:
        well_formed = frame.replace("'x'", "1").replace("[]", "{}")
        result = await session.execute(code.replace(frame, well_formed), timeout=3)
        assert "control channel" in result.error  # there are no tools at all


async def test_a_flood_of_calls_is_bounded(sandbox: NamespaceSandbox) -> None:
    box = Box()
    flood = (
        "import json, os, struct, time\n"
        "d = json.dumps({'op': 'tool', 'call': 1, 'name': 'wait', 'arguments': {}}).encode()\n"
        "for _ in range(100): os.write(3, struct.pack('!I', len(d)) + d)\ntime.sleep(4)"
    )
    async with await sandbox.open(access=Access(toolbox=box)) as session:
        assert (await session.execute(flood, timeout=3)).outcome == "died"
        assert box.most_running <= 1
    many = "n = 0\ntry:\n    while True: add(1, 1); n += 1\nexcept tools.ToolError as e: r = str(e)\nn, r"
    async with await sandbox.open(access=Access(toolbox=Box())) as session:
        result = await session.execute("import tools\n" + many, timeout=50)
        assert result.value.startswith("(1000, 'One step may call tools 1,000 times")


@pytest.mark.parametrize("name", ["", "a b", "class", "_hidden", "ü", "x" * 3 + "-"])
async def test_a_tool_that_cannot_be_a_function_is_refused(sandbox: NamespaceSandbox, name: str) -> None:
    box = Box(specs=(ToolSpec(name=name, description="", parameters={"type": "object"}),))
    with pytest.raises(InvalidInputError, match="tool name"):
        await sandbox.open(access=Access(toolbox=box))
