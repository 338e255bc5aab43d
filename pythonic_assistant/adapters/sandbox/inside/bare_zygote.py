"""The zygote of tier "landlock": for hosts that allow no namespaces, such as a container's inside.

Also that of tier "unsafe", which is the same without the walls: no user, no Landlock, no filter. It has a
folder of its own, and is counted and ended alike, unless its code sets out to escape.

Two processes again. The outer one is the keeper: the parent of every session, which ends what belongs
together and removes what is left. The inner one imports the packages and forks. See `zygote`.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from . import attendant, bare, cgroup, frames, landlock, privileges, root, scratch, session, zygote
from .keeper import Keeper
from .syscalls import (
    CLONE_PARENT,
    MACHINE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    SUPPORTED_MACHINES,
    prctl,
)

# What Python and its packages ask of /proc and /sys. Never /proc itself: it shows every process.
_FACTS = (
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/vm/overcommit_memory",
    "/proc/uptime",
    "/proc/version",
    "/sys/devices/system/cpu",
)
_DEVICES = ("/dev/random", "/dev/urandom")
_LEAST_LANDLOCK = 1
_LEAST_LANDLOCK_AS_OWNER = 3  # before, files of the same user could be cut to nothing


def main(given: Mapping[str, Any]) -> NoReturn:
    """Become the zygote; never returns."""
    settings = zygote.Settings(**given)
    status = socket.socket(fileno=settings.status)
    stage = "machine"
    try:
        if MACHINE not in SUPPORTED_MACHINES:
            raise OSError(f"there is no system call table for {MACHINE}")  # noqa: TRY301
        groups = cgroup.find()
        helper, asking = (None, None) if groups is None else attendant.start(groups)
        stage = "privileges"
        walled = settings.tier != "unsafe"
        slots = _slots() if walled else None
        stage = "landlock"
        known = _landlock(settings, slots) if walled else 0
        stage = "scratch"
        others_pass = slots is not None
        below = scratch.base(settings.scratch, others_pass=others_pass)
        folder, held = scratch.claim(below, others_pass=others_pass)
        inner, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lifeline, kept = os.pipe()
        child = os.fork()
    except OSError as error:
        zygote.refuse(status, stage, error)
    if child:
        inner.close()
        os.close(lifeline)
        os.close(settings.listen)
        if asking is not None:
            asking.close()
        vital = frozenset({child} if helper is None else {child, helper})
        Keeper(child=child, vital=vital, status=status, requests=outer, folder=folder).watch()
    outer.close()
    for descriptor in (kept, held):
        os.close(descriptor)
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        stage = "reach"
        if slots is not None:
            _ensure_reachable(slots.take(), [*settings.python_paths, *settings.site_packages])
        stage = "preload"
        caches = _warm(settings, folder)
        world = bare.World(
            keeper=inner,
            lifeline=lifeline,
            folder=folder,
            slots=slots is not None,
            readable=_readable(settings),
            landlock=known,
            font_caches=caches,
            data_bytes=session.data_in_use(),
            attendant=asking,
            walled=walled,
            facts={
                "tier": settings.tier,
                "landlock": known,
                "users": "slots" if slots else "one",
                "memory": zygote.memory_by(groups),
            },
        )
    except BaseException as error:  # noqa: BLE001  (reported to the owner, who raises it)
        zygote.refuse(status, stage, error)
    frames.send(status, {"event": "ready", **world.facts})
    status.close()
    zygote.serve(
        socket.socket(fileno=settings.listen),
        slots,
        CLONE_PARENT,
        lambda connection, user: bare.run(connection, world, user),
        settings.packages,
    )


def _slots() -> privileges.Slots | None:
    slots = privileges.slots_without_namespaces()
    if slots is None and os.geteuid() == 0:
        raise OSError(
            "root without the capabilities CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETPCAP and SETUID "
            "cannot give sessions users of their own"
        )
    return slots


def _landlock(settings: zygote.Settings, slots: privileges.Slots | None) -> int:
    """Return the version to use.

    Raises:
        OSError: it is not enough.
    """
    known = landlock.version()
    if settings.landlock_most is not None:
        known = min(known, settings.landlock_most)
    least = _LEAST_LANDLOCK_AS_OWNER if slots is None else _LEAST_LANDLOCK
    if known < least:
        found = f"has version {known}" if known else "is missing or switched off"
        raise OSError(f"Landlock {found}, and version {least} is needed")
    return known


def _warm(settings: zygote.Settings, folder: Path) -> dict[str, bytes]:
    """Import the packages; what they write goes into a folder of the zygote's own."""
    own = folder / "zygote"
    own.mkdir(mode=0o700)
    os.environ.update(HOME=str(own), TMPDIR=str(own), MPLCONFIGDIR=str(own / ".matplotlib"))
    return zygote.preload(settings.site_packages, settings.preload)


def _readable(settings: zygote.Settings) -> tuple[str, ...]:
    paths = [*root.SYSTEM, *settings.shown, *settings.site_packages, *_FACTS, *_DEVICES]
    found = dict.fromkeys(os.path.realpath(path) for path in paths if Path(path).exists())
    return tuple(path for path in found if path != "/")


def _ensure_reachable(user: int, paths: Iterable[str]) -> None:
    """Try whether a session's user can read the interpreter and the packages.

    Raises:
        OSError: it cannot.
    """
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            privileges.become(user)
            for path in paths:
                if not os.access(path, os.R_OK):
                    os.write(told, os.fsencode(path))
                    break
        finally:
            os._exit(0)
    os.close(told)
    unreachable = os.fsdecode(os.read(heard, 4096))
    os.close(heard)
    os.waitpid(child, 0)
    if unreachable:
        raise OSError(f"the users of sessions cannot read {unreachable}")
