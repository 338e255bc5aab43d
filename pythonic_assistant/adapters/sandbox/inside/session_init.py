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
from collections.abc import Mapping, Sequence
from typing import NoReturn

from . import family, frames, repl
from .successor import Keeper, Successor
from .surroundings import ALONE, Surroundings
from .syscalls import PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, prctl

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
    setup: repl.Setup,
    extra: Sequence[int] = (),
    around: Surroundings = ALONE,
) -> NoReturn:
    """Start the REPL and look after it; the end of this process is the end of the session.

    Args:
        connection: to the host; out of reach of generated code.
        control: to the host, for the REPL.
        scratch: the scratch folder, for the host to read results from.
        memory_bytes: limit of all processes and disks together.
        setup: for the REPL.
        extra: descriptors that the host gets beside those of every session; closed here.
        around: what depends on the tier.
    """
    prctl(PR_SET_DUMPABLE, 0)
    # So that what the REPL leaves behind, and its kept state, become children of this process.
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (walled, wall), (gate, opened) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        ours.close()
        for descriptor in (walled, opened):
            os.close(descriptor)
        _be_repl(connection, control, theirs, [scratch, *extra], setup, around, wall, gate)
    for descriptor in (wall, gate):
        os.close(descriptor)
    control.close()
    theirs.close()
    if trouble := os.read(walled, _MAX_TROUBLE):
        raise OSError(trouble.decode("utf-8", "replace"))
    os.close(walled)
    code, itself = os.pidfd_open(child), os.pidfd_open(os.getpid())
    around.ask(code)
    frames.send(connection, {"event": "ready", **around.facts}, [scratch, itself, code, *extra])
    for descriptor in (scratch, itself, *extra):
        os.close(descriptor)
    os.dup2(0, 1)  # the pipes end when the last process of the code does
    os.dup2(0, 2)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    try:
        around.wait()
    except OSError as error:
        end: dict[str, object] = {"event": "end", "why": "group", "error": str(error)}
    else:
        os.write(opened, b"1")  # before that, the REPL runs nothing
        os.close(opened)
        end = _Watch(connection, Keeper(ours), code, child, memory_bytes, around).until_end()
    try:
        frames.send(connection, end)
    except OSError:
        around.leave()  # the host is gone
    around.leave()


def _be_repl(
    connection: socket.socket,
    control: socket.socket,
    keeper: socket.socket,
    others: Sequence[int],
    setup: repl.Setup,
    around: Surroundings,
    wall: int,
    gate: int,
) -> NoReturn:
    try:
        prctl(PR_SET_DUMPABLE, 1)
        connection.close()
        for descriptor in others:
            os.close(descriptor)
        os.nice(_NICENESS)
        _wall_in(around, wall)
        if not os.read(gate, 1):
            os._exit(_BROKEN)
        os.close(gate)
        repl.main(control, keeper, setup)
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


class _Watch:
    """Waits for whatever comes to an end: the REPL, its memory, or the host's interest."""

    def __init__(
        self,
        connection: socket.socket,
        keeper: Keeper,
        code: int,
        child: int,
        memory_bytes: int,
        around: Surroundings,
    ) -> None:
        self._connection = connection
        self._keeper = keeper
        self._code = code
        self._child = child
        self._memory_bytes = memory_bytes
        self._around = around
        self._peak = 0
        self._poll = select.poll()
        for source in (connection, keeper, code):
            self._poll.register(source, select.POLLIN)
        if around.lifeline is not None:
            self._poll.register(around.lifeline, select.POLLIN)

    def until_end(self) -> dict[str, object]:
        """Return why the session ends. While a checkpoint is kept, only the code ends, not the session."""
        while True:
            why = self._next()
            if why is None:
                continue
            why["peak_bytes"] = self._peak
            if why["why"] == "host gone":
                return {"event": "end", **why}
            self._keeper.drain(self._child)
            successor = None if why["why"] in self._around.final else self._keeper.take()
            if successor is not None:
                if not self._adopt(successor, why):
                    return {"event": "end", **why}
            elif why["why"] == "rollback":
                frames.send(self._connection, {"event": "nothing kept"})
            else:
                if why["why"] != "exit":  # a limit: the code is still there
                    os.kill(self._child, signal.SIGKILL)
                return {"event": "end", **why}

    def _next(self) -> dict[str, object] | None:
        """Wait a little; return what has happened, if anything has."""
        ready = {descriptor for descriptor, _ in self._poll.poll(_SAMPLE_MILLISECONDS)}
        if self._keeper.fileno() in ready:
            self._keeper.serve(self._child)
        status = _reap(self._child)
        used = self._around.used_bytes(False)
        if used > self._memory_bytes:
            # Pages shared since the fork are counted once for each process: look again, exactly.
            used = self._around.used_bytes(True)
        self._peak = max(self._peak, used)
        if self._around.out_of_memory() or used > self._memory_bytes:
            return {"why": "memory"}
        if status is not None:
            return {"why": "exit", "status": status}
        if (limit := self._around.exceeded()) is not None:
            return {"why": limit}
        if self._around.lifeline in ready:
            return {"why": "host gone"}
        if self._connection.fileno() in ready:
            return {"why": "rollback" if self._asked() else "host gone"}
        return None

    def _asked(self) -> bool:
        """Read what the host wants: there is one thing that it can want."""
        try:
            message, _ = frames.receive(self._connection)
        except (OSError, EOFError, frames.FrameError):
            return False
        return message.get("op") == "rollback"

    def _adopt(self, successor: Successor, why: Mapping[str, object]) -> bool:
        """Put the kept state in the place of the code, of which nothing is left.

        Returns:
            Whether that succeeded: what cannot be ended alone ends with the session.
        """
        if not family.end_all({successor.pid}):
            return False
        self._around.out_of_memory()  # of those that have ended: the kernel may have chosen several
        self._keeper.forget()
        self._poll.unregister(self._code)
        os.close(self._code)
        self._code, self._child = successor.process, successor.pid
        self._poll.register(self._code, select.POLLIN)
        event = {"event": "successor", **why}
        frames.send(self._connection, event, [successor.control.fileno(), successor.process])
        successor.control.close()
        return True


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
