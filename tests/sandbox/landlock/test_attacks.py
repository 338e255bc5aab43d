"""Attempts to reach anything outside of a session that has no namespaces."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import socket
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from pythonic_assistant.adapters.sandbox import connect_sandbox
from pythonic_assistant.adapters.sandbox.inside import bare_filter
from pythonic_assistant.adapters.sandbox.inside.seccomp import REFUSED
from pythonic_assistant.adapters.sandbox.probe import ensure_isolated
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess
from tests.sandbox import attacks

pytestmark = pytest.mark.asyncio(loop_scope="session")

_COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
_ROWS = {
    **REFUSED,
    **bare_filter.REFUSED,
    **bare_filter.REFUSED_SIGNALS,
    "clone": (56, 220),
    "tgkill": (234, 131),
    "prctl": (157, 167),
}
_ALL = {**attacks.ALL, **attacks.BARE}
_SHOW = "\nimport sys; sys.stdout.flush()"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def target(zygote: ZygoteProcess) -> AsyncIterator[NamespaceSession]:
    async with await connect_sandbox(zygote.socket_path).open() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def neighbour(zygote: ZygoteProcess) -> AsyncIterator[str]:
    async with await connect_sandbox(zygote.socket_path).open() as made:
        result = await made.execute("open('mine', 'w').write('x')\nimport os; os.getcwd()", timeout=5)
        yield result.value.strip("'") + "/mine"


@pytest.fixture(scope="module")
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process like the worker: of the same user, with something in its environment."""
    process = subprocess.Popen(["sleep", "600"], env={"SECRET": "of the host"}, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def _aimed(body: str, init: str) -> str:
    """Aim what is meant for pid 1 at the session's init."""
    body = body.replace("/proc/1/", f"/proc/{init}/").replace("pidfd_open(1)", f"pidfd_open({init})")
    body = re.sub(r"os\.kill\(1, ", f"os.kill({init}, ", body)
    return body.replace("ptrace(16, 1,", f"ptrace(16, {init},").replace("16, 1, 0, 0)", f"16, {init}, 0, 0)")


@pytest.mark.parametrize("name", sorted(_ALL))
async def test_attempt_is_stopped(
    name: str,
    target: NamespaceSession,
    zygote: ZygoteProcess,
    neighbour: str,
    victim: subprocess.Popen[bytes],
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the host's secret")
    for folder in (tmp_path, *tmp_path.parents):  # nothing but the sandbox shall be in the way
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(0o755)
    abstract = f"pythonic-test-{os.getpid()}"
    parent = (await target.execute("import os; os.getppid()", timeout=5)).value
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as named:
        named.bind("\0" + abstract)
        named.listen()
        body = _aimed(_ALL[name], parent).format(
            **{row: columns[_COLUMN] for row, columns in _ROWS.items()},
            secret=str(secret),
            own_file=str(secret),
            checkout=str(Path(__file__).parents[3]),
            socket_folder=str(zygote.socket_path.parent),
            socket_path=str(zygote.socket_path),
            pid=os.getpid(),
            victim=victim.pid,
            victim_group=os.getpgid(victim.pid),
            neighbour=neighbour,
            port=listener.getsockname()[1],
            abstract=abstract,
        )
        result = await target.execute(attacks.programme(body) + _SHOW, timeout=5)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert result.outcome == "ok", result.error
    assert result.stdout.startswith("HELD"), result.stdout
    assert secret.read_text() == "the host's secret"
    assert os.listdir(tmp_path) == ["secret.txt"]
    assert victim.poll() is None


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
    assert result.value.endswith("['/dev/null', '/dev/null', 'pipe', 'pipe', 'socket'])")


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
