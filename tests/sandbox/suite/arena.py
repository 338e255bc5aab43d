"""What attacks aim at: a host with secrets, listeners and a bystander, and a peer that is alive meanwhile."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pythonic_assistant.adapters.sandbox.options import SandboxOptions
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.ports import Access, Sandbox, SandboxSession

# Not below /tmp, which sessions cover by one of their own even where another layer is missing.
_PLACE = "/var/tmp"
_CANARY = "CANARY_OF_THE_ENVIRONMENT"
_START_SECONDS = 5.0
_STILL, _STILL_SECONDS = 10, 0.05
_READY_SECONDS = 60.0
_LIMITS = 16  # RLIM_NLIMITS, include/uapi/asm-generic/resource.h
_CHECKOUT = Path(__file__).resolve().parents[3]
_PEER = """
import os, socket, subprocess
mark = {mark!r}
open('peer.txt', 'w').write(mark)
kept = []
for place in ('\\0' + mark, f'../{{mark}}.sock'):
    try:
        kept.append(socket.socket(socket.AF_UNIX)); kept[-1].bind(place); kept[-1].listen()
    except OSError: pass  # a tier without sockets
try: open('/dev/shm/' + mark, 'w').write(mark)
except OSError: pass
child = subprocess.Popen([mark, '3600'], executable='/bin/sleep', env={{'MARK': mark}})
os.getcwd()
"""


class Way(Protocol):
    """A grant of hosts; see `way_out`."""

    @property
    def access(self) -> Access:
        """For `Sandbox.open`."""
        ...

    @property
    def given(self) -> dict[str, Any]:
        """What attacks are told."""
        ...

    async def ensure_open(self, session: SandboxSession) -> None:
        """See `way_out.WayOut.ensure_open`."""
        ...

    def harm(self) -> str:
        """Say whether a secret went astray; empty when it did not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A session that must not be reached."""

    session: SandboxSession
    mark: str
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The host's side of a trial."""

    sandbox: Sandbox
    folder: Path
    listeners: tuple[socket.socket, ...]
    victim: subprocess.Popen[bytes]
    peer: Peer
    given: dict[str, Any]
    before: dict[str, object]
    descriptors: int
    way: Way | None

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """The file that every hostile session is given."""
        path = self.folder / "given.csv"
        return (InputFile(name="given.csv", path=path, media_type="text/csv", bytes=path.stat().st_size),)

    async def harm(self, *, alive: int = 0) -> str:
        """Say what has happened to the host or to the peer; empty when nothing has.

        Args:
            alive: hostile sessions that are still open; descriptors are counted only when there are none.
        """
        now = state(self.folder, self.victim)
        changed = [f"{name}: {self.before[name]} before, {now[name]} now" for name in now]
        found = [line for line, name in zip(changed, now, strict=True) if now[name] != self.before[name]]
        for listener in self.listeners:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                continue
            found.append(f"a connection came in at {listener.getsockname()!r}")
        if not alive and (leaked := await _leaked(self.descriptors)):
            found.append(f"{leaked} descriptors were left open")
        for pid, name in _processes():
            if name == self.given["daemon"]:
                found.append(f"process {pid} was left behind")
                with suppress(ProcessLookupError):  # it was just ending by itself
                    os.kill(pid, signal.SIGKILL)
        if self.way is not None and (astray := self.way.harm()):
            found.append(astray)
        answer = await self.peer.session.execute("open('peer.txt').read(), child.poll()", timeout=10)
        if answer.value != f"({self.peer.mark!r}, None)":
            found.append(f"the peer answers {answer.value or answer.error!r}")
        return "; ".join(found)


def state(folder: Path, victim: subprocess.Popen[bytes]) -> dict[str, object]:
    """Return what must not change on the host."""
    given = folder / "given.csv"
    status = given.stat()
    return {
        "the person's file": (given.read_text(), stat.S_IMODE(status.st_mode), status.st_mtime_ns),
        "the secret": (folder / "secret.txt").read_text(),
        "the folder that everybody may write": sorted(os.listdir(folder / "drop")),
        "the bystander's end": victim.poll(),
        "the bystander's limits": resource.prlimit(victim.pid, resource.RLIMIT_NOFILE),
        "the bystander's priority": os.getpriority(os.PRIO_PROCESS, victim.pid),
        "the bystander's processors": sorted(os.sched_getaffinity(victim.pid)),
        "our limits": [resource.getrlimit(number) for number in range(_LIMITS)],
    }


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _usual_descriptors(sandbox: Sandbox) -> int:
    """Return how many descriptors we hold once that does not change any more.

    Raises:
        TimeoutError: a pool of boxes is not full after a long time.
    """
    if sandbox.tier == "bwrap":
        # Boxes start one after the other, each with descriptors of ours: those that wait, and the peer's.
        async with asyncio.timeout(_READY_SECONDS):
            while _boxes() < SandboxOptions().warm + 1:
                await asyncio.sleep(_STILL_SECONDS)
    seen = [_descriptors()]
    while len(seen) < _STILL or len(set(seen[-_STILL:])) > 1:
        await asyncio.sleep(_STILL_SECONDS)
        seen.append(_descriptors())
    return seen[-1]


def _boxes() -> int:
    return sum(name == "bwrap" and _parent(pid) == os.getpid() for pid, name in _processes())


async def _leaked(usual: int) -> int:
    """Return how many descriptors we hold above the usual number, given time to close them."""
    until = time.monotonic() + _START_SECONDS
    while (more := _descriptors() - usual) > 0 and time.monotonic() < until:
        await asyncio.sleep(_STILL_SECONDS)
    return max(more, 0)


@asynccontextmanager
async def arena(sandbox: Sandbox, way: Way | None = None) -> AsyncGenerator[Arena, None]:
    """Lay out bait, start a bystander and a peer.

    Args:
        sandbox: where attacks run.
        way: what sessions of group egress are granted.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arena-", dir=_PLACE)))
        folder.chmod(0o755)
        (folder / "secret.txt").write_text("the host's secret: " + secrets.token_hex(16))
        (folder / "given.csv").write_text("a,b\n1,2\n")
        (folder / "drop").mkdir()
        (folder / "drop").chmod(0o777)
        canary = secrets.token_hex(16)
        victim = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(36000)"], env={**os.environ, _CANARY: canary}
            )
        )
        stack.callback(victim.kill)
        abstract = f"arena-{secrets.token_hex(8)}"
        listeners = (
            stack.enter_context(socket.create_server(("127.0.0.1", 0))),
            _unix(stack, "\0" + abstract),
            _unix(stack, str(folder / "open.sock")),
        )
        (folder / "open.sock").chmod(0o777)
        for listener in listeners:
            listener.setblocking(False)
        peer = await _peer(sandbox)
        try:
            numbers = await _numbers_of(peer.mark)
            yield Arena(
                sandbox=sandbox,
                folder=folder,
                listeners=listeners,
                victim=victim,
                peer=peer,
                before=state(folder, victim),
                way=way,
                descriptors=await _usual_descriptors(sandbox),
                given={
                    "secret": str(folder / "secret.txt"),
                    "drop": str(folder / "drop"),
                    "checkout": str(_CHECKOUT),
                    "socket_path": str(getattr(sandbox, "socket_path", "/nowhere")),
                    "socket_folder": str(Path(getattr(sandbox, "socket_path", "/nowhere")).parent),
                    "socket_file": str(folder / "open.sock"),
                    "abstract": abstract,
                    "port": listeners[0].getsockname()[1],
                    "worker": victim.pid,
                    "victim": victim.pid,
                    "canary": canary,
                    "daemon": f"left-{secrets.token_hex(4)}",  # a name of at most 15 bytes, TASK_COMM_LEN
                    "egress": {} if way is None else way.given,
                    "peer": {"mark": peer.mark, "folder": peer.folder, **numbers},
                },
            )
        finally:
            await peer.session.close()
            for pid in _marked(peer.mark):  # without a pid namespace nothing ends it with its session
                os.kill(pid, signal.SIGKILL)


def _unix(stack: ExitStack, address: str) -> socket.socket:
    made = stack.enter_context(socket.socket(socket.AF_UNIX))
    made.bind(address)
    made.listen()
    return made


async def _peer(sandbox: Sandbox) -> Peer:
    mark = f"peer-{secrets.token_hex(8)}"
    session = await sandbox.open()
    ready = await session.execute(_PEER.format(mark=mark), timeout=20)
    if ready.outcome != "ok":
        raise RuntimeError(f"the peer did not start: {ready.error}")
    return Peer(session=session, mark=mark, folder=ready.value.strip("'"))


async def _numbers_of(mark: str) -> dict[str, int]:
    """Return the process ids of a peer, as the host counts them."""
    async with asyncio.timeout(_START_SECONDS):
        # Its arguments appear a moment after its start: execve(2) lets the parent go on before that.
        while not (found := _marked(mark)):
            await asyncio.sleep(0.01)
    code = _parent(found[0])
    return {"child": found[0], "code": code, "init": _parent(code)}


def _numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _marked(mark: str) -> list[int]:
    found: list[int] = []
    for process in _numbers():
        try:
            if mark.encode() in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
        except OSError:  # it ended just now
            continue
    return found


def _parent(process: int) -> int:
    """Return a process's parent; 0 when the process has ended meanwhile."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _processes() -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for process in _numbers():
        try:
            found.append((process, Path(f"/proc/{process}/comm").read_text().strip()))
        except OSError:  # it ended just now
            continue
    return found
