"""From a connection to a session of tier "landlock": a folder of its own, a user of its own if possible.

Without namespaces everything of the host is in sight, and the walls are four: the user, where the zygote
is root; Landlock around files, signals and TCP; the system call filter around the rest; and the keeper,
which ends the session as a whole. Session init stays outside of Landlock and of the filter, because it
has to see the code's processes; these cannot signal it (Landlock from version 6, before that the filter),
nor look into it (it cannot be dumped).
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from . import bare_filter, copies, frames, keeper, landlock, privileges, seccomp, session, session_init
from .membership import Membership
from .surroundings import Surroundings
from .syscalls import PR_SET_CHILD_SUBREAPER, prctl
from .usage import Usage

_LIFELINE = session.CONNECTION + 1
_GROUP = _LIFELINE + 1
_WRITABLE_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
# Of the code's own process. Entries of /proc that show the host, such as `net` and `mountinfo`, are not.
_OWN_FACTS = ("cmdline", "comm", "environ", "fd", "limits", "maps", "smaps", "stat", "statm", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every session inherits from the zygote.

    Attributes:
        keeper: where a session registers.
        lifeline: becomes readable when the keeper is gone.
        folder: holds the sessions' folders.
        slots: whether sessions run as users of their own.
        readable: what they may read.
        landlock: its version.
        font_caches: matplotlib's, by file name, so that child processes need not search for fonts.
        data_bytes: private memory that the zygote has reserved; it is not charged to the session.
        attendant: where control groups are asked for, or None where they cannot be made.
        facts: what hosts shall know about the walls.
        walled: False in tier "unsafe", which has no walls.
    """

    keeper: socket.socket
    lifeline: int
    folder: Path
    slots: bool
    readable: tuple[str, ...]
    landlock: int
    font_caches: Mapping[str, bytes]
    data_bytes: int
    attendant: socket.socket | None
    facts: Mapping[str, str | int]
    walled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    scratch: Path
    temporary: Path

    @property
    def all(self) -> tuple[str, str]:
        return str(self.scratch), str(self.temporary)


def run(connection: socket.socket, world: World, user: int | None) -> NoReturn:
    """Turn a fresh fork of the zygote into a session; never returns.

    Args:
        connection: from the host; brings the request and stays as the channel of the session's init.
        world: what the zygote prepared.
        user: the slot user, or None to stay who we are.
    """
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        folder = world.folder / f"{os.getpid()}-{os.urandom(4).hex()}"
        keeper.register(world.keeper, connection, folder)
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the code leaves behind stays ours to count
        connection.settimeout(session.REQUEST_SECONDS)
        request, (control, stdout, stderr, *files) = frames.receive(connection, frames.MAX_DESCRIPTORS)
        connection.setblocking(True)
        _ensure_possible(request, world.facts["tier"])
        # Reassigned, so that an error below is told through the socket's new place.
        others = [world.lifeline, session.number(world.attendant), *files]
        connection = session.settle(connection, [control, stdout, stderr], others)
        read_only = request["folder"] is not None
        places = _make_places(folder, user, world)
        inputs = tuple(range(_GROUP + 1, _GROUP + 1 + len(files)))
        if read_only:
            copies.copy_readable(Path(request["folder"]), places.scratch)
        readable = _show_inputs(request["inputs"], inputs[: len(request["inputs"])], places.scratch, user)
        limits = request["limits"]
        _limit(limits, world, user)
        if world.walled:
            privileges.drop_all_capabilities(user)
        os.chdir(places.scratch)
        member = Membership(place=_GROUP, grouped=world.attendant is not None, limits=limits)
        usage = Usage(places.all, limits)

        def wall_in() -> None:
            member.leave()
            os.close(_LIFELINE)
            if world.walled:
                _wall_in(world, places, readable, read_only=read_only)
            os.closerange(_GROUP + 1, _GROUP + 1 + len(files))

        session_init.run(
            connection,
            socket.socket(fileno=session.CONTROL),
            os.open(places.scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
            memory_bytes=limits["memory_bytes"],
            setup=session.setup_of(request, _environment(places, read_only=read_only)),
            around=Surroundings(
                facts=world.facts,
                lifeline=_LIFELINE,
                wall_in=wall_in,
                used_bytes=lambda exact: usage.memory_bytes(exact=exact),
                ask=member.ask,
                wait=member.wait,
                out_of_memory=member.out_of_memory,
                exceeded=usage.exceeded,
                leave=_leave,
            ),
        )
    except BaseException as error:  # noqa: BLE001  (reported to the host, which raises it)
        text = "".join(traceback.format_exception(error))[-2000:]
        try:
            frames.send(connection, {"event": "failed", "error": text})
        except OSError:
            _leave()  # the host is gone, and nobody is left to tell
    _leave()


def _leave() -> NoReturn:
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _ensure_possible(request: Mapping[str, object], tier: object) -> None:
    if request["certificate"] is not None:
        raise OSError(
            f"the sandbox tier {tier} cannot give a way to the network: it takes the tier namespaces or bwrap"
        )


def _make_places(folder: Path, user: int | None, world: World) -> _Places:
    """Make the session's folders. The one that holds them is the zygote's: the code cannot rename them."""
    folder.mkdir(mode=0o700)
    folder.chmod(0o700 if user is None else 0o711)
    places = _Places(scratch=folder / "scratch", temporary=folder / "tmp")
    caches = places.temporary / ".matplotlib"
    for made in (places.scratch, places.temporary, caches):
        made.mkdir(mode=0o700)
    written = [caches / name for name in world.font_caches]
    for path in written:
        path.write_bytes(world.font_caches[path.name])
    if user is not None:
        for path in (places.scratch, places.temporary, caches, *written):
            os.chown(path, user, user)
    return places


def _show_inputs(
    inputs: Sequence[Mapping[str, str]], files: Sequence[int], scratch: Path, user: int | None
) -> list[int]:
    """Show the input files, as links to where they are, or as copies where the session's user cannot go.

    Returns:
        The descriptors of the files that are read where they are.
    """
    if not inputs:
        return []
    folder = scratch / "inputs"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    linked: list[int] = []
    copied: list[tuple[int, Path]] = []
    reachable = [True] * len(inputs) if user is None else _reachable(inputs, files, user)
    for entry, descriptor, reached in zip(inputs, files, reachable, strict=True):
        target = folder / entry["name"]
        target.unlink(missing_ok=True)  # a mark of whoever made the folder
        if reached:
            target.symlink_to(entry["path"])
            linked.append(descriptor)
        else:
            copied.append((descriptor, target))
    size = sum(os.fstat(descriptor).st_size for descriptor, _ in copied)
    if size > copies.MOST_BYTES:
        raise OSError(
            f"users of sessions cannot read the input files where they are, and {size:,} bytes are more than "
            f"the {copies.MOST_BYTES:,} that may be copied"
        )
    for descriptor, target in copied:
        copies.copy_file(descriptor, target)
    return linked


def _reachable(inputs: Sequence[Mapping[str, str]], files: Sequence[int], user: int) -> list[bool]:
    """Try which of the files a user reaches by their paths."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            privileges.become(user)
            pairs = zip(inputs, files, strict=True)
            os.write(told, bytes(_is_reached(entry["path"], file) for entry, file in pairs))
        finally:
            os._exit(0)
    os.close(told)
    found = os.read(heard, len(inputs))
    os.close(heard)
    os.waitpid(child, 0)
    return [bool(value) for value in found.ljust(len(inputs), b"\0")]


def _is_reached(path: str, file: int) -> bool:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.path.sameopenfile(opened, file)
    finally:
        os.close(opened)


def _limit(limits: Mapping[str, int], world: World, user: int | None) -> None:
    processes = limits["processes"] + 2  # init and REPL come on top
    if user is None:
        # The kernel counts every process of the user, and knows no cheap way to ask how many there are:
        # all of the machine's (proc_loadavg(5)) are not fewer. The exact limit is for session init.
        processes += int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    privileges.limit(resource.RLIMIT_NPROC, processes)
    session.set_limits(limits, world.data_bytes)


def _wall_in(world: World, places: _Places, files: Sequence[int], *, read_only: bool) -> None:
    """The last steps of the process that will run the code."""
    own = [f"/proc/{os.getpid()}/{name}" for name in _OWN_FACTS]
    landlock.restrict(
        readable=(*world.readable, *own, *files, *((str(places.scratch),) if read_only else ())),
        writable=(*(places.all[1:] if read_only else places.all), *_WRITABLE_DEVICES),
        no_network=True,
        most=world.landlock,
    )
    seccomp.install(bare_filter.of_this_process(own_user=world.slots, landlock=world.landlock))


def _environment(places: _Places, *, read_only: bool) -> dict[str, str]:
    return {
        "HOME": str(places.temporary if read_only else places.scratch),
        "LOGNAME": "user",  # what getpass.getuser() asks for first; the list of users cannot be read
        "MPLCONFIGDIR": str(places.temporary / ".matplotlib"),
        "TMPDIR": str(places.temporary),
    }
