"""Attempts to reach anything outside of a session that has no namespaces."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from pythonic_assistant.adapters.sandbox import connect_sandbox
from pythonic_assistant.adapters.sandbox.probe import ensure_isolated
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess
from pythonic_assistant.domain.errors import SandboxUnavailableError
from tests.sandbox.suite.arena import arena
from tests.sandbox.suite.attacks import for_one_session
from tests.sandbox.suite.trial import Trial
from tests.sandbox.suite.way_out import way_out

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def target(zygote: ZygoteProcess) -> AsyncIterator[NamespaceSession]:
    async with await connect_sandbox(zygote.socket_path).open() as made:
        yield made


@pytest.fixture(scope="module")
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process like the worker: of the same user, with something in its environment."""
    process = subprocess.Popen(["sleep", "600"], env={"SECRET": "of the host"}, start_new_session=True)
    yield process
    process.kill()
    process.wait()


async def test_attacks_are_stopped(zygote: ZygoteProcess) -> None:
    async with arena(connect_sandbox(zygote.socket_path)) as place:
        chosen = for_one_session("landlock")
        assert len(chosen) > 190
        trial = await Trial.begin(place)
        outcomes = [outcome async for outcome in trial.run_together(chosen)]
    assert len(outcomes) == len(chosen)
    assert [outcome for outcome in outcomes if not outcome.held] == []


async def test_a_way_out_is_refused_and_says_which_tiers_have_one(newest: ZygoteProcess) -> None:
    sandbox = connect_sandbox(newest.socket_path)
    async with way_out() as way:
        with pytest.raises(SandboxUnavailableError, match="landlock cannot give a way to the network"):
            await sandbox.open(access=way.access)
    async with await sandbox.open() as session:
        assert (await session.execute("1", timeout=5)).value == "1"


async def test_self_test_passes(zygote: ZygoteProcess) -> None:
    sandbox = connect_sandbox(zygote.socket_path)
    await ensure_isolated(sandbox)
    assert sandbox.tier == "landlock"


async def test_mode_owner_and_times_of_other_files_stay(target: NamespaceSession, tmp_path: Path) -> None:
    """Landlock does not know chmod, chown and utime; on its own files the code must not fail by them."""
    theirs = tmp_path / "theirs"
    theirs.write_text("x")
    theirs.chmod(0o640)
    os.utime(theirs, (1, 1))
    code = (
        "import os\n"
        "open('mine', 'w').close(); os.chmod('mine', 0o600); os.utime('mine')\n"
        f"for change in (lambda p: os.chmod(p, 0o777), lambda p: os.utime(p), "
        f"lambda p: os.chown(p, os.getuid(), -1)):\n"
        f"    try: change({str(theirs)!r})\n    except OSError: pass"
    )
    result = await target.execute(code, timeout=5)
    assert result.outcome == "ok", result.error
    found = theirs.stat()
    assert (found.st_mode & 0o777, found.st_uid, found.st_mtime) == (0o640, os.geteuid(), 1)


async def test_kernel_sends_no_signal_in_the_codes_name(
    target: NamespaceSession, victim: subprocess.Popen[bytes]
) -> None:
    """A descriptor's owner gets a signal of choice when data arrives; a filter of kill() sees nothing."""
    code = f"""
import array, fcntl, os, signal, socket, struct
def pair():
    return socket.socketpair()
for own in ({victim.pid}, -{victim.pid}, os.getppid()):
    a, b = pair()
    for step in (
        lambda: fcntl.fcntl(a, fcntl.F_SETOWN, own),
        lambda: fcntl.fcntl(a, 15, struct.pack("ii", 1, own)),
        lambda: fcntl.ioctl(a, 0x8901, struct.pack("i", own)),
        lambda: fcntl.ioctl(a, 0x8902, struct.pack("i", own)),
        lambda: fcntl.fcntl(a, 10, signal.SIGKILL),
        lambda: fcntl.fcntl(a, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC),
    ):
        try: step()
        except OSError: pass
    b.send(b"x")
"sent"
"""
    result = await target.execute(code, timeout=5)
    assert result.value == "'sent'", result.error
    await asyncio.sleep(0.1)
    assert victim.poll() is None
    assert (await target.execute("1", timeout=5)).value == "1"  # init goes on as well


async def test_session_has_no_privileges(target: NamespaceSession) -> None:
    result = await target.execute(
        "fields = dict(l.split(':', 1) for l in open('/proc/self/status').read().splitlines() if ':' in l)\n"
        "[int(fields[n], 16) for n in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb')], "
        "fields['NoNewPrivs'].strip(), fields['Seccomp'].strip(), fields['Groups'].strip()",
        timeout=5,
    )
    assert result.value.startswith("([0, 0, 0, 0], '1', '2'")
    if os.geteuid() == 0:
        user = int((await target.execute("import os; os.getuid()", timeout=5)).value)
        assert user >= 20_000


async def test_environment_and_descriptors_are_its_own(session: NamespaceSession) -> None:
    result = await session.execute(
        "import os\nsorted(os.environ), open('/proc/self/environ').read(), "
        "sorted(os.readlink(f'/proc/self/fd/{n}').split(':')[0] "
        "for n in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{n}'))",
        timeout=5,
    )
    assert "PYTEST_CURRENT_TEST" not in result.value
    # null twice (descriptor 0, and sys.stdin), two pipes, the control socket, and that of checkpoints
    assert result.value.endswith("['/dev/null', '/dev/null', 'pipe', 'pipe', 'socket', 'socket'])")


async def test_code_that_ends_its_group_does_not_end_init(zygote: ZygoteProcess) -> None:
    async with await connect_sandbox(zygote.socket_path).open() as session:
        result = await session.execute("import os, signal; os.killpg(0, signal.SIGKILL)", timeout=5)
        # Either it was refused, or it ended the code alone: init lives to tell.
        assert result.outcome == "error" or "SIGKILL" in result.error, result


KEEP_A_FOREIGN_PROCESS = """
import os, socket, time
for name in os.listdir('/proc/self/fd'):
    try:
        channel = socket.socket(fileno=os.dup(int(name)))
    except OSError:
        continue
    if channel.type == socket.SOCK_SEQPACKET:
        for message in (b'new', b'at %d', b'drop'):
            channel.send(message)
            time.sleep(0.2)
        print('told')
"""


async def test_session_init_ends_no_process_of_the_host_for_the_code(session: NamespaceSession) -> None:
    victim = subprocess.Popen(["sleep", "60"])
    try:
        result = await session.execute(KEEP_A_FOREIGN_PROCESS % victim.pid, timeout=10)
        assert result.stdout == "told\n", result.error
        assert (await session.execute("1 + 1", timeout=5)).value == "2"
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
