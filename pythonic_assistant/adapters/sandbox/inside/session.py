"""From a connection to a walled session: fresh namespaces, empty disks, no privileges.

The order of the steps matters and is told at each of them.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from . import binder, disks, frames, landlock, network, privileges, repl, seccomp, session_init
from .membership import Membership
from .surroundings import Surroundings
from .syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    LIBC,
    checked,
    unshare,
)

REQUEST_SECONDS = 10.0
_FIRST_FREE = 300  # above every place: six, and two for each input file and for a folder
_STDERR, CONTROL, CONNECTION = 2, 3, 4
_HOSTNAME = b"sandbox"
_KILL_FIRST = "900"  # when the machine runs out of memory, sessions go before workers


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every session inherits from the zygote.

    Attributes:
        binder: the way to the process that binds input files.
        owner: the zygote's own user and group.
        slots: users for sessions, or None where sessions run as the zygote's own user.
        below_tmp: parts of the interpreter that a session's own `/tmp` would hide.
        font_caches: matplotlib's, by file name, so that child processes need not search for fonts.
        data_bytes: private memory that the zygote has reserved; it is not charged to the session.
        attendant: where control groups are asked for, or None where they cannot be made.
        facts: what hosts shall know about the walls.
    """

    binder: socket.socket
    owner: tuple[int, int]
    slots: privileges.Slots | None
    below_tmp: tuple[str, ...]
    font_caches: Mapping[str, bytes]
    data_bytes: int
    attendant: socket.socket | None
    facts: Mapping[str, str | int]


def data_in_use() -> int:
    """Return the bytes of private data that this process has reserved, as RLIMIT_DATA counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return 0


def run(connection: socket.socket, world: World, user: int | None) -> NoReturn:
    """Turn a fresh fork of the zygote, alone in a user and a pid namespace, into a session; never returns.

    Args:
        connection: from the host; brings the request and stays as the channel of the session's init.
        world: what the zygote prepared.
        user: the slot user, or None to stay who we are.
    """
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        connection.settimeout(REQUEST_SECONDS)
        request, (control, stdout, stderr, *files) = frames.receive(connection, frames.MAX_DESCRIPTORS)
        connection.setblocking(True)
        paths = [entry["path"] for entry in request["inputs"]]
        if request["folder"] is not None:
            paths.append(request["folder"])
        mounts = _become_user(paths, files, world, user)
        # Reassigned, so that an error below is told through the socket's new place.
        connection = settle(connection, [control, stdout, stderr], [*files, *mounts, number(world.attendant)])
        listener = _wall_in(request, [found is not None for found in mounts], world)
        member = Membership(
            place=CONNECTION + 1 + len(files) + len(mounts),
            grouped=world.attendant is not None,
            limits=request["limits"],
        )
        session_init.run(
            connection,
            socket.socket(fileno=CONTROL),
            os.open(disks.SCRATCH, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
            memory_bytes=request["limits"]["memory_bytes"],
            setup=setup_of(request, {} if request["folder"] is None else {"HOME": disks.TMP}),
            extra=[] if listener is None else [listener.detach()],
            around=Surroundings(
                facts=world.facts,
                wall_in=member.leave,
                ask=member.ask,
                wait=member.wait,
                out_of_memory=member.out_of_memory,
            ),
        )
    except BaseException as error:  # noqa: BLE001  (reported to the host, which raises it)
        text = "".join(traceback.format_exception(error))[-2000:]
        try:
            frames.send(connection, {"event": "failed", "error": text})
        except OSError:
            os._exit(2)  # the host is gone, and nobody is left to tell
    os._exit(1)


def number(channel: socket.socket | None) -> int | None:
    """Return the descriptor of a socket, if there is one."""
    return None if channel is None else channel.fileno()


def _become_user(
    paths: Sequence[str], files: Sequence[int], world: World, user: int | None
) -> list[int | None]:
    """Become the session's user in the user namespace; return a mount for each path."""
    if user is None:
        privileges.map_user(privileges.USER_INSIDE, privileges.GROUP_INSIDE, *world.owner)
        if not paths:
            return []
        return binder.request(world.binder, paths, files, world.owner[0], map_owner=False)
    mounts = binder.request(world.binder, paths, files, user, map_owner=True)
    privileges.become_inside()
    return mounts


def setup_of(request: Mapping[str, Any], places: Mapping[str, str]) -> repl.Setup:
    """Return what the REPL begins with.

    Args:
        request: from the host.
        places: variables that say where things are here. Programs keep their state at home, and a folder
            that is only shown takes none.
    """
    shown = request["folder"] is not None
    # What others left in a folder that is only shown is not imported by processes of the code either.
    apart = {"PYTHONSAFEPATH": "1"} if shown else {}
    return repl.Setup(
        seed=request["seed"],
        environment={**places, **apart, **request["environment"]},
        tools=request["tools"],
        shown=shown,
    )


def _wall_in(request: Mapping[str, Any], bound: Sequence[bool], world: World) -> socket.socket | None:
    """Leave every other namespace, and give up every privilege.

    Returns:
        The listener of the session's way out, where it gets one.
    """
    inputs, limits = request["inputs"], request["limits"]
    # In the user namespace: set before, it would also count what the same user runs outside of it.
    # Init and REPL come on top; above that is room for a checkpoint, which forks twice.
    privileges.limit(resource.RLIMIT_NPROC, limits["processes"] + 2, above=2)
    unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
    folder = None
    if request["folder"] is not None:
        if not bound[-1]:
            raise OSError("this kernel cannot show the folder to a session; its files have to be inputs")
        folder = CONNECTION + 2 * len(bound)
    disks.mount_scratch(limits, world.below_tmp, world.font_caches, folder)
    disks.mount_inputs(inputs, bound, CONNECTION + 1)
    os.closerange(CONNECTION + 1, CONNECTION + 1 + 2 * len(bound))
    listener = None
    if request["certificate"] is not None:
        disks.mount_certificate(request["certificate"])
        listener = network.listen()
    checked(int(LIBC.sethostname(_HOSTNAME, len(_HOSTNAME))), "sethostname")
    os.chdir(disks.SCRATCH)
    set_limits(limits, world.data_bytes)
    # From the widest power to the narrowest: each step needs what the next removes.
    privileges.drop_all_capabilities()
    devices = ("/dev/null", "/dev/zero", "/dev/full")
    landlock.restrict(readable=("/",), writable=(disks.SCRATCH, disks.TMP, disks.SHM, *devices))
    seccomp.install()
    return listener


def settle(connection: socket.socket, streams: Sequence[int], others: Sequence[int | None]) -> socket.socket:
    """Put the descriptors in their places and close every other one.

    0 null, 1 stdout, 2 stderr, 3 control, 4 connection, then the others in their order (the null device
    where there is none).

    Args:
        connection: to the host; the socket that is returned takes its place.
        streams: control, stdout and stderr.
        others: input files, then their mounts.
    """
    control, stdout, stderr = streams
    null = os.open("/dev/null", os.O_RDWR)
    wanted = [null, stdout, stderr, control, connection.fileno()]
    wanted += [null if found is None else found for found in others]
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FIRST_FREE) for descriptor in wanted]
    connection.detach()
    for place, descriptor in enumerate(high):
        os.dup2(descriptor, place, inheritable=place <= _STDERR)
    os.closerange(len(high), os.sysconf("SC_OPEN_MAX"))
    return socket.socket(fileno=CONNECTION)


def set_limits(limits: Mapping[str, int], data_bytes: int) -> None:
    """Set the resource limits that hold for each process; for `data_bytes` see `World`."""
    Path("/proc/self/oom_score_adj").write_text(_KILL_FIRST)
    # 0 forbids a file only: where core_pattern names a programme, the kernel hands it the memory of whatever
    # crashes, unless the limit is 1, which allows no file either (fs/coredump.c, do_coredump).
    privileges.limit(resource.RLIMIT_CORE, 1)
    # At the soft limit the code ends by SIGXCPU, which tells why; SIGKILL follows if it catches that.
    privileges.limit(resource.RLIMIT_CPU, limits["cpu_seconds"], above=2)
    privileges.limit(resource.RLIMIT_FSIZE, limits["disk_bytes"])
    privileges.limit(resource.RLIMIT_MEMLOCK, 1 << 16)
    privileges.limit(resource.RLIMIT_MSGQUEUE, 0)
    privileges.limit(resource.RLIMIT_NOFILE, limits["open_files"])
    privileges.limit(resource.RLIMIT_RTPRIO, 0)
    privileges.limit(resource.RLIMIT_SIGPENDING, 256)
    # A single process that asks for too much gets a MemoryError and keeps its variables; the sum over
    # all processes is for the watchdog of session init.
    privileges.limit(resource.RLIMIT_DATA, limits["memory_bytes"] + data_bytes)
