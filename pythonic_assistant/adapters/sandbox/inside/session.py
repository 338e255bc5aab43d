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
from typing import NoReturn

from . import binder, frames, landlock, privileges, seccomp, session_init
from .surroundings import Surroundings
from .syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    LIBC,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    attach_mount,
    checked,
    mount,
    set_mount_attributes,
    unshare,
)

REQUEST_SECONDS = 10.0
_FIRST_FREE = 300  # above every place: five, and an input file and its mount each
_STDERR, CONTROL, CONNECTION = 2, 3, 4
_PAGE = 4096
COPY_LIMIT_BYTES = 256 << 20
_HOSTNAME = b"sandbox"
_KILL_FIRST = "900"  # when the machine runs out of memory, sessions go before workers
_QUIET = MS_NOSUID | MS_NODEV
_SCRATCH = "/scratch"
_TMP = "/tmp"  # noqa: S108
_SHM = "/dev/shm"  # noqa: S108


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
        facts: what hosts shall know about the walls.
    """

    binder: socket.socket
    owner: tuple[int, int]
    slots: privileges.Slots | None
    below_tmp: tuple[str, ...]
    font_caches: Mapping[str, bytes]
    data_bytes: int
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
        mounts = _become_user([entry["path"] for entry in request["inputs"]], files, world, user)
        # Reassigned, so that an error below is told through the socket's new place.
        connection = settle(connection, [control, stdout, stderr], [*files, *mounts])
        _wall_in(request["inputs"], [found is not None for found in mounts], request["limits"], world)
        scratch = os.open(_SCRATCH, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        memory = request["limits"]["memory_bytes"]
        control_socket = socket.socket(fileno=CONTROL)
        session_init.run(
            connection,
            control_socket,
            scratch,
            memory_bytes=memory,
            seed=request["seed"],
            around=Surroundings(facts=world.facts),
        )
    except BaseException as error:  # noqa: BLE001  (reported to the host, which raises it)
        text = "".join(traceback.format_exception(error))[-2000:]
        try:
            frames.send(connection, {"event": "failed", "error": text})
        except OSError:
            os._exit(2)  # the host is gone, and nobody is left to tell
    os._exit(1)


def _become_user(
    paths: Sequence[str], files: Sequence[int], world: World, user: int | None
) -> list[int | None]:
    """Become the session's user in the user namespace; return a mount for each input file."""
    if user is None:
        privileges.map_user(privileges.USER_INSIDE, privileges.GROUP_INSIDE, *world.owner)
        if not paths:
            return []
        return binder.request(world.binder, paths, files, world.owner[0], map_owner=False)
    mounts = binder.request(world.binder, paths, files, user, map_owner=True)
    privileges.become_inside()
    return mounts


def _wall_in(
    inputs: Sequence[Mapping[str, str]], bound: Sequence[bool], limits: Mapping[str, int], world: World
) -> None:
    """Leave every other namespace, and give up every privilege."""
    # In the user namespace: set before, it would also count what the same user runs outside of it.
    privileges.limit(resource.RLIMIT_NPROC, limits["processes"] + 2)  # init and REPL come on top
    unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
    _mount_disks(limits, world)
    _mount_inputs(inputs, bound)
    checked(int(LIBC.sethostname(_HOSTNAME, len(_HOSTNAME))), "sethostname")
    os.chdir(_SCRATCH)
    set_limits(limits, world.data_bytes)
    # From the widest power to the narrowest: each step needs what the next removes.
    privileges.drop_all_capabilities()
    devices = ("/dev/null", "/dev/zero", "/dev/full")
    landlock.restrict(readable=("/",), writable=(_SCRATCH, _TMP, _SHM, *devices))
    seccomp.install()


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


def _mount_disks(limits: Mapping[str, int], world: World) -> None:
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", _QUIET | MS_NOEXEC, "subset=pid")
    # One disk, so that one quota holds for both folders; its top is covered by the first of them.
    user = f"mode=755,uid={privileges.USER_INSIDE},gid={privileges.GROUP_INSIDE}"
    quota = f"size={limits['disk_bytes']},nr_inodes={limits['inodes'] + 16}"
    mount("tmpfs", _SCRATCH, "tmpfs", _QUIET, f"{user},{quota}")
    home, temporary = Path(_SCRATCH, "home"), Path(_SCRATCH, "tmp")
    home.mkdir(mode=0o700)
    temporary.mkdir(mode=0o700)
    # Opened first: afterwards the session's /tmp covers them.
    parts = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in world.below_tmp]
    mount(str(temporary), _TMP, None, MS_BIND)
    mount(str(home), _SCRATCH, None, MS_BIND)
    for path, descriptor in parts:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            Path(path).mkdir(parents=True, exist_ok=True)
        else:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
        mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | MS_REC)
        os.close(descriptor)
    caches = Path(os.environ["MPLCONFIGDIR"])
    caches.mkdir(parents=True, exist_ok=True)
    for name, content in world.font_caches.items():
        (caches / name).write_bytes(content)
    mount("tmpfs", _SHM, "tmpfs", _QUIET | MS_NOEXEC, f"mode=700,size={limits['memory_bytes'] // 4}")


def _mount_inputs(inputs: Sequence[Mapping[str, str]], bound: Sequence[bool]) -> None:
    """Show the input files, read-only. Those that could not be bound are copied into memory."""
    first_file = CONNECTION + 1
    first_mount = first_file + len(inputs)
    if inputs:
        folder = Path(_SCRATCH, "inputs")
        folder.mkdir()
        sizes = [os.fstat(first_file + i).st_size for i, made in enumerate(bound) if not made]
        if sum(sizes) > COPY_LIMIT_BYTES:
            raise OSError(
                f"this kernel cannot bind the input files, and {sum(sizes):,} bytes are more than the "
                f"{COPY_LIMIT_BYTES:,} that may be copied into memory"
            )
        room = sum(size + 2 * _PAGE for size in sizes) + (len(inputs) + 4) * _PAGE
        mount("tmpfs", str(folder), "tmpfs", _QUIET | MS_NOEXEC, f"mode=755,size={room}")
        for index, entry in enumerate(inputs):
            target = folder / entry["name"]
            if bound[index]:
                target.touch()
                attach_mount(first_mount + index, str(target))
            else:
                copy_file(first_file + index, target)
        attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
        set_mount_attributes(str(folder), attributes)
    os.closerange(first_file, first_mount + len(inputs))


def copy_file(descriptor: int, target: Path) -> None:
    """Copy an open file, from its beginning, into one that everybody may read."""
    offset = 0
    with target.open("wb") as copy:
        while chunk := os.pread(descriptor, 1 << 20, offset):
            copy.write(chunk)
            offset += len(chunk)
    target.chmod(0o444)


def set_limits(limits: Mapping[str, int], data_bytes: int) -> None:
    """Set the resource limits that hold for each process; for `data_bytes` see `World`."""
    Path("/proc/self/oom_score_adj").write_text(_KILL_FIRST)
    privileges.limit(resource.RLIMIT_CORE, 0)
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
