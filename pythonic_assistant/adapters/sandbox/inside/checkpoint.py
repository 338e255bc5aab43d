"""Keeps the state before a piece of code, from within the REPL: a fork that waits.

The parent goes on and runs the code, so that threads of earlier steps live on. The child is handed over to
session init by a second fork: as a child of the REPL it would be found by the code's own `os.wait()`.
"""

from __future__ import annotations

import os
import resource
import select
import socket
from typing import Literal

from . import successor

_SECONDS = 15.0  # session init answers at once, when a busy machine lets it

Side = Literal["kept", "not kept", "successor"]


class Checkpoints:
    """At most one kept state.

    Args:
        keeper: to session init.
        control: to the host; in the kept process the same descriptor leads to a channel of its own, on
            which nothing is said until that process is needed, and which closes when it is not any more.
    """

    def __init__(self, keeper: socket.socket, control: socket.socket) -> None:
        self._keeper = keeper
        self._control = control
        # The room between both is for the kept process, not for the code.
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_NPROC)
        self.kept = False

    def take(self) -> Side:
        """Fork; returns twice: here ("kept", or "not kept" without a fork) and in the kept process."""
        self.kept = False
        ends: list[int] = []
        try:
            ends += os.pipe()
            ends.append(_channel(self._keeper))
            told, telling, channel = ends
            self._allow(self._hard)
            child = os.fork()
            if child == 0:
                self._become_kept(channel, telling)
                self._allow(self._soft)
                return "successor"
            ends.remove(telling)
            os.close(telling)
            _wait(child)
            self.kept = os.read(told, 1) == b"."
        except OSError:  # no process, descriptor or memory to be had: the code runs without
            pass
        finally:
            for descriptor in ends:
                os.close(descriptor)
        self._allow(self._soft + self.kept)
        return "kept" if self.kept else "not kept"

    def drop(self) -> None:
        """Let the kept state go."""
        self.kept = False
        self._allow(self._soft)
        try:
            self._keeper.send(successor.DROP)
        except OSError:  # init is gone, and so will be this process
            return

    def _become_kept(self, channel: int, telling: int) -> None:
        """Fork once more, in the child; return in the grandchild, which is init's child then."""
        try:
            if os.fork():
                os._exit(0)
            os.dup2(channel, self._control.fileno(), inheritable=False)
            self._keeper.send(successor.AT + str(os.getpid()).encode())
            os.write(telling, b".")
        except OSError:
            os._exit(1)

    def _allow(self, processes: int) -> None:
        try:
            resource.setrlimit(resource.RLIMIT_NPROC, (min(processes, self._hard), self._hard))
        except (OSError, ValueError):  # the code lowered it for good
            return


def _channel(keeper: socket.socket) -> int:
    """Ask init for the channel of the next successor.

    Raises:
        OSError: there is none.
    """
    try:
        while select.select([keeper], [], [], 0)[0]:
            for stale in socket.recv_fds(keeper, 1, 1)[1]:
                os.close(stale)
        keeper.send(successor.NEW)
        if select.select([keeper], [], [], _SECONDS)[0]:
            return socket.recv_fds(keeper, 1, 1)[1][0]
    except (ValueError, IndexError) as error:  # the code closed it, or holds more than select can take
        raise OSError("no channel") from error
    raise TimeoutError("no channel")


def _wait(child: int) -> None:
    try:
        os.waitpid(child, 0)
    except ChildProcessError:  # a handler of the code's collected it
        return
