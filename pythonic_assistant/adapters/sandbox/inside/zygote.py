"""The zygote: imports the heavy packages once, then forks a session for each connection.

Two processes. The outer one stays on the host's side of the mounts: it lives as long as its owner, and
binds input files. The inner one is pid 1 of a pid namespace that holds every session, so that its end,
by whatever cause, is the end of all of them. Neither runs generated code.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import site
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from . import binder, frames, landlock, privileges, root, session
from .syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MACHINE,
    MS_REC,
    MS_SLAVE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    SUPPORTED_MACHINES,
    fork_into,
    mount,
    prctl,
    unshare,
)

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the owner passes on the command line.

    Attributes:
        listen: descriptor of the listening Unix socket.
        status: descriptor of a socket to the owner; its end is the zygote's end.
        owner: the owner's process id.
        python_paths: what of the interpreter and its packages is shown to sessions.
        site_packages: folders for `sys.path`. Path files in them are not read: they may name a checkout.
        preload: modules to import; those that are not installed are left out.
        tier: "namespaces", or "landlock" and "unsafe" (see `bare_zygote`).
        scratch: the folder of the host below which sessions without namespaces write.
        landlock_most: the newest version of Landlock to use; older kernels are tried out with it.
    """

    listen: int
    status: int
    owner: int
    python_paths: tuple[str, ...]
    site_packages: tuple[str, ...]
    preload: tuple[str, ...]
    tier: str = "namespaces"
    scratch: str = "/var/tmp"  # noqa: S108
    landlock_most: int | None = None


def main(given: Mapping[str, Any]) -> NoReturn:
    """Become the zygote; never returns."""
    settings = Settings(**given)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    status = socket.socket(fileno=settings.status)
    if os.getppid() != settings.owner:
        os._exit(1)
    stage = "start"
    try:
        stage = "machine"
        if MACHINE not in SUPPORTED_MACHINES:
            raise OSError(f"there is no system call table for {MACHINE}")  # noqa: TRY301
        slots = privileges.slots()
        owner = os.geteuid(), os.getegid()
        if slots is not None:
            os.setgroups([])  # sessions inherit this, and could not do it in a user namespace
        else:
            stage = "user namespace"
            unshare(CLONE_NEWUSER)
            privileges.map_user(*owner, *owner)
        stage = "namespaces"
        unshare(CLONE_NEWNS | CLONE_NEWPID)
        mount(None, "/", None, MS_REC | MS_SLAVE)
        inner, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # No descriptor may outlive a fork by accident: all of Python's are closed on exec, none on fork.
        child = os.fork()
    except OSError as error:
        refuse(status, stage, error)
    if child:
        inner.close()
        os.close(settings.listen)
        _watch(child, status, outer, privileged=slots is not None)
    outer.close()
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        stage = "namespaces"
        unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
        stage = "root"
        root.build(settings.python_paths)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        stage = "preload"
        world = _warm_up(settings, slots, inner)
    except BaseException as error:  # noqa: BLE001  (reported to the owner, who raises it)
        refuse(status, stage, error)
    frames.send(status, {"event": "ready", **world.facts})
    status.close()
    serve(
        socket.socket(fileno=settings.listen),
        slots,
        CLONE_NEWUSER | CLONE_NEWPID,
        lambda connection, user: session.run(connection, world, user),
    )


def refuse(status: socket.socket, stage: str, error: BaseException) -> NoReturn:
    """Tell the owner why there will be no zygote, and end."""
    number = error.errno if isinstance(error, OSError) else None
    text = "".join(traceback.format_exception_only(error)).strip()
    frames.send(status, {"event": "refused", "stage": stage, "error": text, "errno": number})
    os._exit(1)


def _watch(child: int, status: socket.socket, outer: socket.socket, *, privileged: bool) -> NoReturn:
    """Serve binding requests until the inner zygote or the owner is gone."""
    handle = os.pidfd_open(child)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(status, select.POLLIN)  # the owner never writes: readable means closed
    poll.register(outer, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if handle in ready or status.fileno() in ready:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.waitpid(child, 0)
            os._exit(0)
        if outer.fileno() in ready:
            binder.serve(outer, privileged=privileged)


def preload(site_packages: Sequence[str], modules: Sequence[str]) -> dict[str, bytes]:
    """Import what sessions find imported; return matplotlib's font caches by file name.

    Args:
        site_packages, modules: see `Settings`.
    """
    sys.path[:] = [path for path in sys.path if Path(path).exists()] + list(site_packages)
    site.setquit()
    site.sethelper()
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    threads = list(Path("/proc/self/task").iterdir())
    if len(threads) != 1:  # a fork would lose the others, whatever they hold
        raise RuntimeError(f"the preloaded packages started {len(threads) - 1} threads")
    return {
        path.name: path.read_bytes()
        for path in sorted(Path(os.environ["MPLCONFIGDIR"]).glob("*.json"))
        if path.is_file()
    }


def _warm_up(settings: Settings, slots: privileges.Slots | None, inner: socket.socket) -> session.World:
    caches = preload(settings.site_packages, settings.preload)
    hidden = tuple(
        path
        for path in dict.fromkeys(place for p in settings.python_paths for place in (p, os.path.realpath(p)))
        if path.startswith("/tmp/") and Path(path).exists()  # noqa: S108
    )
    return session.World(
        binder=inner,
        owner=(os.geteuid(), os.getegid()),
        slots=slots,
        below_tmp=hidden,
        font_caches=caches,
        data_bytes=session.data_in_use(),
        facts={
            "tier": "namespaces",
            "landlock": landlock.version(),
            "users": "slots" if slots else "one",
            "memory": "watchdog",
        },
    )


def serve(
    listening: socket.socket,
    slots: privileges.Slots | None,
    flags: int,
    run: Callable[[socket.socket, int | None], NoReturn],
) -> NoReturn:
    """Fork a session for each connection.

    Args:
        listening: where hosts connect; other users are turned away.
        slots: users for sessions.
        flags: CLONE_* of the fork.
        run: becomes the session; is given the connection and the slot user.
    """
    gc.collect()
    gc.freeze()  # the collector must not write to pages that sessions share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    me = os.geteuid()
    while True:
        connection, _ = listening.accept()
        credentials: Any = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        if _UCRED.unpack(credentials)[1] != me:
            connection.close()
            continue
        user = slots.take() if slots else None
        try:
            child = fork_into(flags)
        except OSError as error:  # out of memory, processes or namespaces: the next one may do better
            _refuse_session(connection, error)
            child = -1
        if child == 0:
            listening.close()
            run(connection, user)
        connection.close()


def _refuse_session(connection: socket.socket, error: OSError) -> None:
    connection.setblocking(False)
    try:
        frames.send(connection, {"event": "failed", "error": str(error)})
    except OSError:  # the host did not wait
        return
