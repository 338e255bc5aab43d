"""What holds in every tier that this machine offers: the tiers differ in their walls, not in what they do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
import pytest_asyncio

from pythonic_assistant.adapters.sandbox import SandboxOptions, open_sandbox
from pythonic_assistant.adapters.sandbox.interpreter import python_paths
from pythonic_assistant.adapters.sandbox.owned import OwnedSandbox
from pythonic_assistant.domain.errors import SandboxDiedError, SandboxUnavailableError
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.ports import Access, SandboxSession
from tests.sandbox.as_ordinary_user import is_reachable
from tests.sandbox.granted import Box, Greeter
from tests.sandbox.suite import tiers
from tests.sandbox.suite.way_out import API, FOREIGN, way_out

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

MIB = 1 << 20
Tier = Literal["namespaces", "bwrap", "landlock", "unsafe"]
ALL: tuple[Tier, ...] = ("namespaces", "bwrap", "landlock", "unsafe")
# Sessions of root's landlock have users of their own, who have to be able to go to the interpreter;
# `test_other_users.py` runs this module again where they can.
UNREACHABLE = os.geteuid() == 0 and not all(is_reachable(path) for path in python_paths())
OFFERED = [
    tier
    for tier in ALL
    if tier == "unsafe" or not (tiers.missing(tier) or (tier == "landlock" and UNREACHABLE))
]
WITH_A_WAY_OUT = ("namespaces", "bwrap")


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=OFFERED)
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[OwnedSandbox]:
    # Not below pytest's own folder, which each of its processes shuts against the users of sessions.
    with TemporaryDirectory(prefix="pythonic-test-packages-", dir="/tmp") as folder:
        packages = Path(folder) / "packages"
        (packages / "first").mkdir(parents=True)
        for open_to_all in (Path(folder), packages, packages / "first"):
            open_to_all.chmod(0o755)
        (packages / "first" / "pyt_added.py").write_text("WORD = 'added'\n")
        (packages / "current").symlink_to("first")
        async with open_sandbox(wanted=request.param, options=SandboxOptions(packages=packages)) as made:
            yield made


def _input(name: str, path: Path) -> InputFile:
    return InputFile(name=name, path=path, media_type="text/csv", bytes=path.stat().st_size)


async def value(session: SandboxSession, code: str, timeout: float = 20) -> str:
    result = await session.execute(code, timeout=timeout)
    assert result.outcome == "ok", result.error
    return result.value


async def test_no_tier_that_the_machine_offers_is_left_out() -> None:
    assert OFFERED[-1] == "unsafe"
    for tier in set(ALL) - set(OFFERED):
        assert tiers.missing(tier) or (tier == "landlock" and UNREACHABLE)


async def test_ordinary_work_its_files_and_its_variables(sandbox: OwnedSandbox, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("a,b\n1,2\n3,4\n")
    source.chmod(0o600)
    async with await sandbox.open(inputs=[_input("in put.csv", source)]) as session:
        code = (
            "import subprocess, sys\nimport pandas\n"
            "frame = pandas.read_csv('inputs/in put.csv')\nframe.to_csv('out.csv', index=False)\n"
            "print('done')\nint(frame.to_numpy().sum())"
        )
        result = await session.execute(code, timeout=20)
        assert (result.outcome, result.stdout) == ("ok", "done\n"), result.error
        assert result.value == "10"
        run = "subprocess.run([sys.executable, '-c', 'import numpy; print(numpy.int8(5))'], "
        assert await value(session, f"{run}capture_output=True, text=True).stdout") == "'5\\n'"
        refused = "try: open('inputs/in put.csv', 'a'); r = 'written'\nexcept OSError as e: r = 'refused'\nr"
        if sandbox.tier != "unsafe":  # which has no walls
            assert await value(session, refused) == "'refused'"
        assert source.read_text() == "a,b\n1,2\n3,4\n"
        found = {found.name: found for found in await session.variables()}
        assert "2 x 2" in found["frame"].summary or "DataFrame" in found["frame"].type
        collected = await session.collect(tmp_path / "out")
        error = await session.execute("frame['c']", timeout=5)
        assert (error.outcome, "KeyError" in error.error) == ("error", True)
    assert [file.name for file in collected] == ["out.csv"]
    assert (tmp_path / "out" / "out.csv").read_text() == "a,b\n1,2\n3,4\n"


async def test_the_same_seed_gives_the_same_numbers_in_every_tier(sandbox: OwnedSandbox) -> None:
    draw = (
        "import random, numpy\n"
        "round(random.random(), 6), round(float(numpy.random.default_rng().random()), 6)"
    )
    async with await sandbox.open(seed=5) as session:
        drawn = await value(session, draw)
    assert _DRAWN.setdefault(5, drawn) == drawn
    async with await sandbox.open(seed=6) as session:
        assert await value(session, draw) != drawn


_DRAWN: dict[int, str] = {}
"""What the first tier drew from a seed."""


async def test_a_timeout_interrupts_and_keeps_variables(sandbox: OwnedSandbox) -> None:
    async with await sandbox.open() as session:
        await value(session, "kept = [1]")
        for code in ("while True: pass", "import time; time.sleep(60)"):
            result = await session.execute(code, timeout=0.3)
            assert result.outcome == "timeout"
            assert "0.3 seconds" in result.error
        assert await value(session, "kept") == "[1]"
        stubborn = "import time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass"
        result = await session.execute(f"kept = 2\n{stubborn}", timeout=0.3, checkpoint=True)
        assert (result.outcome, result.rolled_back) == ("died", True)
        assert await value(session, "kept") == "[1]"
        result = await session.execute(stubborn, timeout=0.3)
        assert (result.outcome, result.rolled_back) == ("died", False)
        with pytest.raises(SandboxDiedError, match="did not stop"):
            await session.execute("1", timeout=5)


ALLOCATE = (
    "import os, time\n"
    "for _ in range(8):\n"
    "    if os.fork() == 0:\n"
    "        b = bytearray(os.urandom(1 << 20) * 60); time.sleep(30)\n"
    "time.sleep(30)"
)


async def test_a_death_under_a_checkpoint_ends_in_the_state_before(sandbox: OwnedSandbox) -> None:
    async with await sandbox.open(limits=SandboxLimits(memory_bytes=250 * MIB)) as session:
        await value(session, "kept = {'a': 1}")
        for code, words in (
            ("import os; os._exit(7)", "status 7"),
            ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
            ("import os, time; os.write(3, b'\\xff' * 64); time.sleep(9)", "control channel"),
            ("import os, time; os.close(3); time.sleep(9)", "control channel"),
            (ALLOCATE, "250 MiB"),
        ):
            result = await session.execute(f"kept['a'] = 2\n{code}", timeout=15, checkpoint=True)
            assert (result.outcome, result.rolled_back) == ("died", True), result.error
            assert words in result.error
            assert await value(session, "kept") == "{'a': 1}"
        await session.execute("kept['a'] = 3; 1 / 0", timeout=5, checkpoint=True)
        assert await session.rollback()
        assert await value(session, "kept") == "{'a': 1}"
        result = await session.execute("while True: pass", timeout=0.3)
        assert result.outcome == "timeout"
        # What code does that lives on after a rollback: child processes, its own memory, a signal to itself.
        lives = (
            "import os, signal, subprocess, sys, threading\n"
            "seen = []\nsignal.signal(signal.SIGUSR1, lambda *_: seen.append(1))\n"
            "signal.raise_signal(signal.SIGUSR1)\n"
            "t = threading.Thread(target=seen.append, args=(2,)); t.start(); t.join()\n"
            "seen, subprocess.run(['echo', 'x'], capture_output=True).stdout"
        )
        assert await value(session, lives) == "([1, 2], b'x\\n')"


async def test_a_fork_bomb_is_undone(sandbox: OwnedSandbox) -> None:
    if sandbox.tier == "unsafe" and os.geteuid() == 0:
        # The kernel limits no processes of root (kernel/fork.c), and this would try the machine.
        async with await sandbox.open(limits=SandboxLimits(processes=5)) as session:
            many = (
                "import subprocess, time\n"
                "kept = [subprocess.Popen(['sleep', '9']) for _ in range(20)]\ntime.sleep(9)"
            )
            result = await session.execute(many, timeout=8)
            assert "more than 5 processes" in result.error
        return
    async with await sandbox.open(limits=SandboxLimits(processes=30)) as session:
        await value(session, "kept = 1")
        code = (
            "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nmain = os.getpid()\n"
            "while True:\n    try: os.fork()\n    except OSError:\n        if os.getpid() == main: break"
        )
        result = await session.execute(code, timeout=10, checkpoint=True)
        try:
            if not result.rolled_back:
                assert await session.rollback()
            assert await value(session, "kept") == "1"
            assert await value(session, "import subprocess; subprocess.run(['true']).returncode") == "0"
        except SandboxDiedError:
            # Users are counted as a whole where sessions have none of their own: there may be hundreds
            # before the kernel refuses, too many to be ended one by one.
            assert sandbox.details["users"] == "one"
            assert sandbox.tier in ("landlock", "unsafe")
    async with await sandbox.open() as other:
        assert await value(other, "6 * 7") == "42"


async def test_variables_of_the_environment(sandbox: OwnedSandbox) -> None:
    access = Access(environment={"GITHUB_TOKEN": "PLACEHOLDER_x"})
    async with await sandbox.open(access=access) as session:
        child = "import subprocess; subprocess.run(['printenv', 'GITHUB_TOKEN'], capture_output=True).stdout"
        assert await value(session, child) == "b'PLACEHOLDER_x\\n'"
        await session.execute("os._exit(1)", timeout=5)
        shown = (
            "import os; os.path.isdir(os.environ['HOME']), os.path.isdir(os.environ['TMPDIR']), os.getcwd()"
        )
    async with await sandbox.open() as other:
        assert await value(other, "import os; 'GITHUB_TOKEN' in os.environ") == "False"
        assert (await value(other, shown)).startswith("(True, True")


async def test_tools_are_called_from_inside(sandbox: OwnedSandbox) -> None:
    box = Box()
    async with await sandbox.open(access=Access(toolbox=box)) as session:
        assert await value(session, "add(1, 2)['sum'], add(3, b=4)['text']") == "(3, 'ü')"
        refused = await session.execute("add('x', 2)", timeout=5)
        assert "a must be an integer" in refused.error
        assert (await session.execute("wait()", timeout=0.3)).outcome == "timeout"
        died = await session.execute("add(1, 1)\nimport os; os._exit(5)", timeout=5, checkpoint=True)
        assert (died.outcome, died.rolled_back) == ("died", True)
        assert await value(session, "len(large(bytes=1 << 20)), add(5, 6)['sum']") == "(1048576, 11)"
    assert box.running == 0


async def test_what_is_saved_comes_back_in_a_folder_that_is_only_shown(
    sandbox: OwnedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "inputs").mkdir(mode=0o700)
    (tmp_path / "result.txt").write_text("result")
    (tmp_path / "result.txt").chmod(0o600)
    given = tmp_path / "given.csv"
    given.write_text("a\n1\n")
    async with await sandbox.open() as session:
        await value(session, "import pandas\nframe = pandas.DataFrame({'a': [1, 2]})\npair = (1, 'x')")
        saved, unsaved = await session.save(tmp_path / ".variables")
    assert ([entry.name for entry in saved], unsaved) == (["frame", "pair"], ())
    async with await sandbox.open(folder=tmp_path, inputs=[_input("in.csv", given)]) as session:
        assert set(await session.restore()) == {"frame", "pair"}
        assert await value(session, "int(frame.a.sum()), pair") == "(3, (1, 'x'))"
        assert await value(session, "open('result.txt').read(), open('inputs/in.csv').read()") == repr(
            ("result", "a\n1\n")
        )
        await value(session, "import os, pathlib; pathlib.Path(os.environ['TMPDIR'], 'mine').write_text('x')")
        assert await value(session, "pathlib.Path('~/state').expanduser().write_text('x')") == "1"
        for attempt in (
            "open('new', 'w')",
            "open('result.txt', 'a')",
            "os.unlink('result.txt')",
            "os.mkdir('more')",
            "os.rename('result.txt', 'other')",
            "os.truncate('result.txt', 0)",
        ):
            code = f"try: {attempt}; r = 'done'\nexcept OSError as e: r = 'refused'\nr"
            if sandbox.tier != "unsafe":
                assert await value(session, code) == "'refused'", attempt
            else:
                await session.execute(code, timeout=5)
        if sandbox.tier != "unsafe":
            death = await session.execute("frame = None\nos._exit(1)", timeout=5, checkpoint=True)
            assert death.rolled_back
            assert await value(session, "len(frame), open('result.txt').read()") == "(2, 'result')"
    # Also where nothing is walled in, the code has only seen a copy.
    assert (tmp_path / "result.txt").read_text() == "result"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".variables",
        "given.csv",
        "inputs",
        "result.txt",
    ]
    assert list((tmp_path / "inputs").iterdir()) == []


async def test_a_way_out_leads_to_granted_hosts_only_or_is_refused(sandbox: OwnedSandbox) -> None:
    if sandbox.tier not in WITH_A_WAY_OUT:
        with pytest.raises(SandboxUnavailableError, match="takes the tier namespaces or bwrap"):
            await sandbox.open(access=Access(egress=Greeter()))
        async with await sandbox.open() as session:  # the refusal harms no other
            assert await value(session, "6 * 7") == "42"
        return
    ask = (
        "import os, urllib.request, urllib.error\n"
        "def ask(host):\n"
        "    token = {'X-Token': os.environ['API_TOKEN']}\n"
        "    request = urllib.request.Request(f'http://{host}/', headers=token)\n"
        "    try: return urllib.request.urlopen(request, timeout=10).read().decode()\n"
        "    except urllib.error.HTTPError as e: return e.code\n"
    )
    async with way_out() as granted:
        async with await sandbox.open(access=granted.access) as session:
            await value(session, ask)
            assert "reached api.example.org" in await value(session, f"ask({API!r})")
            assert await value(session, f"ask({FOREIGN!r})") == "403"
            died = await session.execute("os._exit(1)", timeout=5, checkpoint=True)
            assert died.rolled_back
            assert "reached api.example.org" in await value(session, f"ask({API!r})")
        assert granted.secret.value.encode() in granted.heard[API]
        assert granted.harm() == ""
        assert {report.host for report in granted.reports} == {API, FOREIGN}
    async with await sandbox.open() as session:
        alone = (
            "import os, socket\n"
            "try: socket.create_connection(('127.0.0.1', 3128), timeout=1); r = 'connected'\n"
            "except OSError as e: r = e.errno\nr, 'HTTPS_PROXY' in os.environ"
        )
        # Nobody listens on a loopback of bwrap's own, where there is no loopback at all in namespaces.
        assert await value(session, alone) in ("(101, False)", "(111, False)")


async def test_additional_packages_can_be_imported_also_by_child_processes(sandbox: OwnedSandbox) -> None:
    assert "pyt_added" in await sandbox.importable()
    async with await sandbox.open() as session:
        child = (
            "import pyt_added, subprocess, sys\n"
            "run = subprocess.run([sys.executable, '-c', 'import pyt_added; print(pyt_added.WORD)'], "
            "capture_output=True, text=True)\npyt_added.WORD, run.stdout, run.stderr"
        )
        assert await value(session, child) == "('added', 'added\\n', '')"


LIMITS = SandboxLimits(
    memory_bytes=300 * MIB,
    processes=20,
    disk_bytes=4 * MIB,
    inodes=200,
    output_bytes=10_000,
    open_files=64,
)
BEYOND = {
    "open_files": "kept = [open('/dev/null') for _ in range(100)]",
    "memory_bytes": "x = bytearray(900 << 20)",
    "disk_bytes": "import time\nopen('f', 'wb').write(b'x' * (5 << 20)); time.sleep(9)",
    "inodes": "import time\nfor n in range(400): open(f'n{n}', 'w').close()\ntime.sleep(9)",
    "processes": (
        "import subprocess, time\n"
        "kept = [subprocess.Popen(['sleep', '60']) for _ in range(50)]\ntime.sleep(9)"
    ),
}


@pytest.mark.parametrize("limit", BEYOND)
async def test_what_goes_beyond_a_limit_is_told_with_its_name(sandbox: OwnedSandbox, limit: str) -> None:
    async with await sandbox.open(limits=LIMITS) as session:
        await value(session, "kept = 1")
        result = await session.execute(BEYOND[limit], timeout=15, checkpoint=True)
        assert result.outcome in ("error", "died"), result
        assert f"({limit}" in result.error
        if result.rolled_back:
            assert await value(session, "kept") == "1"
        elif result.outcome == "died":
            # Files stay, and so would their being too many. Where processes are only counted, so many of them
            # can be in the way of going back.
            counted = ("processes",) if sandbox.tier in ("landlock", "unsafe") else ()
            assert limit in ("disk_bytes", "inodes", *counted), result.error
            assert "The session and its variables are gone" in result.error


async def test_cpu_time_and_output_have_limits(sandbox: OwnedSandbox) -> None:
    limits = SandboxLimits(cpu_seconds=3, output_bytes=10_000)
    async with await sandbox.open(limits=limits) as session:
        cut = await session.execute("print('x' * 20_000)", timeout=5)
        assert cut.truncated
        assert "10,000 bytes" in cut.stderr
        result = await session.execute("while True: pass", timeout=30, checkpoint=True)
        assert (result.outcome, result.rolled_back) == ("died", True)
        assert "cpu_seconds" in result.error


async def test_a_storm_of_sessions_is_weathered_and_leaves_nothing(sandbox: OwnedSandbox) -> None:
    before = len(os.listdir("/proc/self/fd"))

    async def one(number: int) -> str:
        async with await sandbox.open() as session:
            await session.execute(f"kept = {number}", timeout=30)
            await session.execute("import os; os._exit(1)", timeout=30, checkpoint=True)
            return await value(session, "kept", 30)

    assert await asyncio.gather(*(one(number) for number in range(8))) == [str(n) for n in range(8)]
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(session)
            for session in await asyncio.gather(*(sandbox.open() for _ in range(3)))
        ]
        results = await asyncio.gather(*(session.execute("6 * 7", timeout=30) for session in opened))
        assert [result.value for result in results] == ["42"] * 3
    if sandbox.tier != "bwrap":  # which keeps boxes prepared, with descriptors of their own
        assert len(os.listdir("/proc/self/fd")) == before
