"""Pid 1 of a session: starts the REPL, reaps, watches memory, and dies with its host.

It shares user and privileges with the generated code, but not its channel to the host: it cannot be
dumped, so the code can neither read its memory nor take its descriptors.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import traceback
from typing import NoReturn

from . import frames, repl
from .syscalls import PR_SET_DUMPABLE, prctl

_SAMPLE_MILLISECONDS = 100
_DISKS = ("/scratch", "/tmp", "/dev/shm")  # noqa: S108  (the first two may be one)
_NICENESS = 5  # the host's event loop goes first
_BROKEN = 70  # EX_SOFTWARE, sysexits.h
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM)


def run(
    connection: socket.socket,
    control: socket.socket,
    scratch: int,
    *,
    memory_bytes: int,
    seed: int | None,
    inodes: int | None = None,
) -> NoReturn:
    """Start the REPL and look after it; the end of this process is the end of the session.

    Args:
        connection: to the host; out of reach of generated code.
        control: to the host, for the REPL.
        scratch: the scratch folder, for the host to read results from.
        memory_bytes: limit of all processes and disks together.
        seed: see `repl.main`.
        inodes: limit of files and folders, where the disks themselves have none.
    """
    prctl(PR_SET_DUMPABLE, 0)
    child = os.fork()
    if child == 0:
        _be_repl(connection, control, scratch, seed)
    control.close()
    code, itself = os.pidfd_open(child), os.pidfd_open(os.getpid())
    frames.send(connection, {"event": "ready"}, [scratch, itself, code])
    for descriptor in (scratch, itself):
        os.close(descriptor)
    os.dup2(0, 1)  # the pipes end when the last process of the code does
    os.dup2(0, 2)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    end = _watch(connection, code, child, memory_bytes, inodes)
    try:
        frames.send(connection, end)
    except OSError:
        os._exit(1)  # the host is gone; leaving ends every process of the session
    os._exit(0)


def _be_repl(connection: socket.socket, control: socket.socket, scratch: int, seed: int | None) -> NoReturn:
    try:
        prctl(PR_SET_DUMPABLE, 1)
        connection.close()
        os.close(scratch)
        os.nice(_NICENESS)
        repl.main(control, seed)
    except BaseException:  # noqa: BLE001  (the code may have broken what the REPL stands on)
        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(_BROKEN)


def _watch(
    connection: socket.socket, code: int, child: int, memory_bytes: int, inodes: int | None
) -> dict[str, object]:
    poll = select.poll()
    poll.register(connection, select.POLLIN)  # the host never writes: readable means closed
    poll.register(code, select.POLLIN)
    peak = 0
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(_SAMPLE_MILLISECONDS)}
        status = _reap(child)
        used = _used_bytes()
        if used > memory_bytes:
            # Pages shared since the fork are counted once for each process: look again, exactly.
            used = _used_bytes(exact=True)
        peak = max(peak, used)
        if status is not None:
            return {"event": "end", "why": "exit", "status": status, "peak_bytes": peak}
        if used > memory_bytes:
            os.kill(child, signal.SIGKILL)
            return {"event": "end", "why": "memory", "peak_bytes": peak}
        if inodes is not None and _used_inodes() > inodes:
            os.kill(child, signal.SIGKILL)
            return {"event": "end", "why": "inodes", "peak_bytes": peak}
        if connection.fileno() in ready:
            return {"event": "end", "why": "host gone", "peak_bytes": peak}


def _reap(child: int) -> int | None:
    """Collect ended processes; return the REPL's exit code, negative for a signal, once it has ended."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended == child:
            return os.waitstatus_to_exitcode(status)
        if ended == 0:
            return None


def _used_bytes(*, exact: bool = False) -> int:
    """Return the private memory of all processes but this one, and what the disks hold."""
    total = sum((space.f_blocks - space.f_bfree) * space.f_frsize for space in _spaces())
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and name != "1":
            total += _used_by(name, exact=exact)
    return total


def _used_inodes() -> int:
    return sum(space.f_files - space.f_ffree for space in _spaces())


def _spaces() -> list[os.statvfs_result]:
    """Return what each disk holds, none of them twice."""
    found = {os.stat(disk).st_dev: disk for disk in _DISKS}  # noqa: PTH116
    return [os.statvfs(disk) for disk in found.values()]


def _used_by(process: str, *, exact: bool) -> int:
    source, fields = "status", (b"RssAnon:", b"RssShmem:")
    if exact:
        source, fields = "smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:")
    try:
        with open(f"/proc/{process}/{source}", "rb") as lines:  # noqa: PTH123
            return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(fields))
    except PermissionError:
        # It made itself undumpable to hide: what it shares is then counted in full.
        return _used_by(process, exact=False) if exact else 0
    except (FileNotFoundError, ProcessLookupError):  # it ended just now
        return 0
