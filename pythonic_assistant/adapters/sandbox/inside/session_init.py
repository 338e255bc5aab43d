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
from .surroundings import ALONE, Surroundings
from .syscalls import PR_SET_DUMPABLE, prctl

_SAMPLE_MILLISECONDS = 100
_NICENESS = 5  # the host's event loop goes first
_MAX_TROUBLE = 2_000
_BROKEN = 70  # EX_SOFTWARE, sysexits.h
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM)


def run(
    connection: socket.socket,
    control: socket.socket,
    scratch: int,
    *,
    memory_bytes: int,
    seed: int | None,
    around: Surroundings = ALONE,
) -> NoReturn:
    """Start the REPL and look after it; the end of this process is the end of the session.

    Args:
        connection: to the host; out of reach of generated code.
        control: to the host, for the REPL.
        scratch: the scratch folder, for the host to read results from.
        memory_bytes: limit of all processes and disks together.
        seed: see `repl.main`.
        around: what depends on the tier.
    """
    prctl(PR_SET_DUMPABLE, 0)
    walled, wall = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(walled)
        _be_repl(connection, control, scratch, seed, around, wall)
    os.close(wall)
    control.close()
    if trouble := os.read(walled, _MAX_TROUBLE):
        raise OSError(trouble.decode("utf-8", "replace"))
    os.close(walled)
    code, itself = os.pidfd_open(child), os.pidfd_open(os.getpid())
    frames.send(connection, {"event": "ready", **around.facts}, [scratch, itself, code])
    for descriptor in (scratch, itself):
        os.close(descriptor)
    os.dup2(0, 1)  # the pipes end when the last process of the code does
    os.dup2(0, 2)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    end = _watch(connection, code, child, memory_bytes, around)
    try:
        frames.send(connection, end)
    except OSError:
        around.leave()  # the host is gone
    around.leave()


def _be_repl(
    connection: socket.socket,
    control: socket.socket,
    scratch: int,
    seed: int | None,
    around: Surroundings,
    wall: int,
) -> NoReturn:
    try:
        prctl(PR_SET_DUMPABLE, 1)
        connection.close()
        os.close(scratch)
        os.nice(_NICENESS)
        _wall_in(around, wall)
        repl.main(control, seed, around.environment)
    except BaseException:  # noqa: BLE001  (the code may have broken what the REPL stands on)
        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(_BROKEN)


def _wall_in(around: Surroundings, wall: int) -> None:
    """Put up the last walls; what fails is told to init, and no code is run."""
    try:
        if around.wall_in is not None:
            around.wall_in()
    except OSError as error:
        os.write(wall, str(error).encode()[:_MAX_TROUBLE])
        os._exit(_BROKEN)
    os.close(wall)


def _watch(
    connection: socket.socket, code: int, child: int, memory_bytes: int, around: Surroundings
) -> dict[str, object]:
    poll = select.poll()
    if around.lifeline is not None:
        poll.register(around.lifeline, select.POLLIN)
    poll.register(connection, select.POLLIN)  # the host never writes: readable means closed
    poll.register(code, select.POLLIN)
    peak = 0
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(_SAMPLE_MILLISECONDS)}
        status = _reap(child)
        used = around.used_bytes(False)
        if used > memory_bytes:
            # Pages shared since the fork are counted once for each process: look again, exactly.
            used = around.used_bytes(True)
        peak = max(peak, used)
        if status is not None:
            return {"event": "end", "why": "exit", "status": status, "peak_bytes": peak}
        if used > memory_bytes:
            os.kill(child, signal.SIGKILL)
            return {"event": "end", "why": "memory", "peak_bytes": peak}
        if (limit := around.exceeded()) is not None:
            os.kill(child, signal.SIGKILL)
            return {"event": "end", "why": limit, "peak_bytes": peak}
        if connection.fileno() in ready or around.lifeline in ready:
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
