"""The state before a piece of code, as session init keeps it: a process that waits on a channel of its own.

Generated code can write to init here. What it says is not believed: a number is taken only if it is that of a
process of this very session, because init and the host signal what is kept, and without namespaces numbers
reach every process of the machine. Then init does no more than hand the host a channel to whoever holds the
other end.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from dataclasses import dataclass

from . import family

_MESSAGE_BYTES = 32
NEW, DROP, AT = b"new", b"drop", b"at "


@dataclass(frozen=True, slots=True, kw_only=True)
class Successor:
    """A process that can take the REPL's place.

    Attributes:
        pid: its number.
        process: its pidfd.
        control: the host's end of its channel.
    """

    pid: int
    process: int
    control: socket.socket

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not select.select([self.process], [], [], 0)[0]

    def close(self) -> None:
        """Close our ends; a successor whose channel closes leaves by itself."""
        self.control.close()
        os.close(self.process)


class Keeper:
    """Holds at most one successor.

    Args:
        connection: SOCK_SEQPACKET, to the REPL and whoever runs in it.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._control: socket.socket | None = None
        self._successor: Successor | None = None

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._connection.fileno()

    def serve(self, code: int) -> None:
        """Answer one message, if there is any.

        Args:
            code: the REPL's process, which cannot be its own successor.
        """
        try:
            message = self._connection.recv(_MESSAGE_BYTES)
        except OSError:
            return
        if message == NEW:
            self._hand_out()
        elif message == DROP:
            self._let_go()
        elif message.startswith(AT) and message[len(AT) :].isdigit():
            self._keep(int(message[len(AT) :]), code)

    def drain(self, code: int) -> None:
        """Answer what has been said so far, with an end even if somebody goes on talking."""
        for _ in range(64):
            if not select.select([self._connection], [], [], 0)[0]:
                return
            self.serve(code)

    def take(self) -> Successor | None:
        """Return the successor, which the caller owns then, or None where there is none alive."""
        found, self._successor = self._successor, None
        if found is not None and not found.alive:
            found.close()
            return None
        return found

    def forget(self) -> None:
        """Drop what is unread: whoever wrote it is gone."""
        try:
            while self._connection.recv(_MESSAGE_BYTES):
                pass
        except OSError:
            return

    def _hand_out(self) -> None:
        """Make the channel of the next successor, and give its end away."""
        if self._control is not None:
            self._control.close()
        try:
            self._control, theirs = socket.socketpair()
        except OSError:  # out of descriptors: no checkpoint, and the REPL goes on without
            self._control = None
            return
        with theirs:
            try:
                socket.send_fds(self._connection, [b"."], [theirs.fileno()])
            except OSError:  # nobody reads the answers
                self._control.close()
                self._control = None

    def _keep(self, pid: int, code: int) -> None:
        control, self._control = self._control, None
        if control is None:
            return
        if pid in (1, os.getpid(), code):
            control.close()
            return
        try:
            process = os.pidfd_open(pid)
        except (OSError, OverflowError):
            control.close()
            return
        # Looked at after it was opened: a number that is given out anew meanwhile leaves us an ended process.
        if not family.holds(pid):
            control.close()
            os.close(process)
            return
        self._let_go()
        self._successor = Successor(pid=pid, process=process, control=control)

    def _let_go(self) -> None:
        found, self._successor = self._successor, None
        if found is None:
            return
        try:
            signal.pidfd_send_signal(found.process, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            found.close()
