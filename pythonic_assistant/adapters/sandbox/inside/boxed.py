"""A session inside of walls that bubblewrap has made: prepared ahead, for one request.

For hosts where bwrap may make namespaces and what it starts may not, such as Ubuntu with its AppArmor
profile. Everything that needs mounts is done by bwrap's arguments; see `bwrap_command.py` of the host's side.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from . import frames, landlock, memory, network, privileges, seccomp, session, session_init, zygote
from .surroundings import Surroundings
from .syscalls import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl

_SCRATCH, _TMP, _SHM = "/scratch", "/tmp", "/dev/shm"  # noqa: S108
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
_ALREADY_THERE = 64  # the disks' own folders, the interpreter's places below /tmp, matplotlib's caches
_STREAMS = 4  # connection, control, stdout, stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the owner passes on the command line.

    Attributes:
        tier: "bwrap".
        job: descriptor of the socket to the owner: brings one request, and its end is the box's end.
        site_packages, preload: see `zygote.preload`.
        become: whether to turn from the namespace's root into the session's user first.
        folder: whether `/scratch` is a read-only folder of the host.
        packages: folder of additional packages, of which `current/` is put on the path last; or None.
    """

    tier: str
    job: int
    site_packages: tuple[str, ...]
    preload: tuple[str, ...]
    become: bool
    folder: bool
    packages: str | None = None


def main(given: Mapping[str, Any]) -> NoReturn:
    """Become a box, then a session; never returns."""
    settings = Settings(**given)
    job = socket.socket(fileno=settings.job)
    try:
        if settings.become:
            _become_user(settings)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # afterwards: changing users clears it
        # Before a request was asked for, what can be read is the end: it came before the line above.
        if select.select([job], [], [], 0)[0]:
            os._exit(0)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        zygote.preload(settings.site_packages, settings.preload)
        gc.collect()
        frames.send(job, {"event": "ready", **_facts(settings)})
    except BaseException as error:  # noqa: BLE001  (reported to the owner, who raises it)
        text = "".join(traceback.format_exception_only(error)).strip()
        frames.send(job, {"event": "refused", "error": text})
        os._exit(1)
    try:
        request, descriptors = frames.receive(job, _STREAMS)
    except (EOFError, OSError):
        os._exit(0)  # never needed
    job.close()
    zygote.use_packages(settings.packages)  # now: what was added since the box was prepared is found too
    _run(request, descriptors, settings)


def _facts(settings: Settings) -> dict[str, str | int]:
    return {
        "tier": settings.tier,
        "landlock": landlock.version(),
        "users": "slots" if settings.become else "one",
        "memory": "watchdog",
    }


def _become_user(settings: Settings) -> None:
    """Turn from the namespace's root, who has set it up, into the session's user for good."""
    for folder in (_TMP, _SHM) if settings.folder else (_SCRATCH, _TMP, _SHM):
        os.chown(folder, privileges.USER_INSIDE, privileges.GROUP_INSIDE)
    privileges.drop_all_capabilities(privileges.USER_INSIDE)
    prctl(PR_SET_DUMPABLE, 1)


def _run(request: Mapping[str, Any], descriptors: list[int], settings: Settings) -> NoReturn:
    connection = socket.socket(fileno=descriptors[0])
    try:
        data_bytes = session.data_in_use()
        limits: dict[str, int] = request["limits"]
        # Reassigned, so that an error below is told through the socket's new place.
        connection = session.settle(connection, descriptors[1:], [])
        # Init and REPL come on top; above that is room for a checkpoint, which forks twice.
        privileges.limit(resource.RLIMIT_NPROC, limits["processes"] + 2, above=2)
        listener = network.listen() if request["certificate"] is not None else None
        os.chdir(_SCRATCH)
        session.set_limits(limits, data_bytes)
        privileges.drop_all_capabilities()
        writable = (_TMP, _SHM, *_DEVICES, *(() if settings.folder else (_SCRATCH,)))
        landlock.restrict(readable=("/",), writable=writable)
        seccomp.install()
        session_init.run(
            connection,
            socket.socket(fileno=session.CONTROL),
            os.open(_SCRATCH, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
            memory_bytes=limits["memory_bytes"],
            setup=session.setup_of(request, {"HOME": _TMP} if settings.folder else {}),
            extra=[] if listener is None else [listener.detach()],
            around=_surroundings(limits, settings),
        )
    except BaseException as error:  # noqa: BLE001  (reported to the host, which raises it)
        text = "".join(traceback.format_exception(error))[-2000:]
        try:
            frames.send(connection, {"event": "failed", "error": text})
        except OSError:
            os._exit(2)  # the host is gone, and nobody is left to tell
    os._exit(1)


def _surroundings(limits: Mapping[str, int], settings: Settings) -> Surroundings:
    """Return what session init counts: bwrap makes several disks, and gives them no limit of files."""
    disks = (_TMP, _SHM) if settings.folder else (_SCRATCH, _TMP, _SHM)
    most = limits["inodes"] + _ALREADY_THERE

    def exceeded() -> str | None:
        used = sum(space.f_files - space.f_ffree for space in map(os.statvfs, disks))
        return "inodes" if used > most else None

    def used_bytes(exact: bool) -> int:
        return memory.in_pid_namespace(exact, disks=disks)

    return Surroundings(facts=_facts(settings), used_bytes=used_bytes, exceeded=exceeded)
