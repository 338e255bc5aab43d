"""The half of the zygote that outlives every session, where no namespace ends them together.

It is the parent of every session's init. Whoever ends, it ends the rest: a session's processes form one
process group that none of them can leave, and one signal to a group is atomic (kill(2); new members are
not made while it is sent, kernel/fork.c). The group's number is its init's, which stays taken until the
keeper has reaped it: no other group can be hit.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import traceback
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from . import frames, scratch
from .syscalls import PR_SET_CHILD_SUBREAPER, prctl

_MESSAGE_BYTES = 4096
_POLLRDHUP = 0x2000  # include/uapi/asm-generic/poll.h


def register(keeper: socket.socket, connection: socket.socket, folder: Path) -> None:
    """Put the calling process, soon a session's init, into the keeper's care, before it makes its folder.

    Args:
        keeper: the datagram socket to the keeper, which all sessions share.
        connection: to the host; when the host closes it, the session ends and the folder is removed.
        folder: of the session.
    """
    message = json.dumps({"process": os.getpid(), "folder": str(folder)}).encode()
    socket.send_fds(keeper, [message], [connection.fileno()])


@dataclass(slots=True, kw_only=True)
class _Session:
    process: int
    folder: Path
    connection: socket.socket
    alive: bool = True
    closed: bool = False


@dataclass(slots=True, kw_only=True)
class Keeper:
    """Looks after the sessions of one zygote.

    Args:
        child: the zygote's other half, which forks them.
        vital: processes whose end is the end of all.
        status: to the owner; its end is the end of all.
        requests: where sessions register.
        folder: holds the folders of all sessions.
    """

    child: int
    vital: frozenset[int]
    status: socket.socket
    requests: socket.socket
    folder: Path
    _by_process: dict[int, _Session] = field(default_factory=dict[int, _Session])
    _by_connection: dict[int, _Session] = field(default_factory=dict[int, _Session])
    _poll: select.poll = field(default_factory=select.poll)

    def watch(self) -> NoReturn:
        """Serve until the owner or the other half is gone; a mistake of ours is told and ends all, too."""
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001  (the owner logs it and starts another zygote)
            _tell(self.status, error)
        self._end_all()

    def _serve(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a dead init leaves comes here
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _woken)  # ignored, nobody would be woken
        self.requests.setblocking(False)  # all that have registered are taken, and nobody is waited for
        for descriptor in (woken, self.status.fileno(), self.requests.fileno()):
            self._poll.register(descriptor, select.POLLIN)
        self._reap()  # who ended before we listened
        while True:
            ready = [descriptor for descriptor, _ in self._poll.poll()]
            self._accept()
            if self.status.fileno() in ready:  # the owner never writes: readable means closed
                return
            if woken in ready:
                os.read(woken, 1 << 16)
                self._reap()
            for descriptor in ready:
                if (session := self._by_connection.get(descriptor)) is not None:
                    self._close(session)

    def _accept(self) -> None:
        """Take all that have registered."""
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.requests, _MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
            if not data:
                return  # nobody is left who could register
            if not descriptors:
                continue  # it died while it was asking
            message = json.loads(data)
            session = _Session(
                process=message["process"],
                folder=Path(message["folder"]),
                connection=socket.socket(fileno=descriptors[0]),
            )
            self._by_process[session.process] = session
            self._by_connection[session.connection.fileno()] = session
            self._poll.register(session.connection, _POLLRDHUP)

    def _reap(self) -> None:
        """Collect ended processes. The group of an init ends before its number is given back."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if ended.si_pid in self.vital:
                self._end_all()
            self._accept()  # it registered before it ended: it must be known before it is forgotten
            _kill_group(ended.si_pid)  # nothing happens if it was no init, and so no leader
            os.waitpid(ended.si_pid, 0)
            session = self._by_process.pop(ended.si_pid, None)
            if session is not None:
                session.alive = False
                if session.closed:
                    self._remove(session.folder)
                else:  # our copy of the connection must not keep the end from the host
                    session.connection.shutdown(socket.SHUT_WR)

    def _close(self, session: _Session) -> None:
        """The host has closed the connection: nobody is going to collect any more."""
        self._poll.unregister(session.connection)
        del self._by_connection[session.connection.fileno()]
        session.connection.close()
        session.closed = True
        if session.alive:
            _kill_session(session.process)  # removed when it has been reaped
        else:
            self._remove(session.folder)

    @staticmethod
    def _remove(folder: Path) -> None:
        try:
            child = os.fork()
        except OSError:  # out of processes or memory, which is what code tries to bring about
            scratch.remove(folder)
            return
        if child == 0:
            try:
                scratch.remove(folder)
            finally:
                os._exit(0)

    def _end_all(self) -> NoReturn:
        for process in self._by_process:
            _kill_session(process)
        os.kill(self.child, signal.SIGKILL)
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                break
            if ended is not None:
                _kill_group(ended.si_pid)
                os.waitpid(ended.si_pid, 0)
        scratch.remove(self.folder)
        os._exit(0)


def _woken(number: int, frame: types.FrameType | None) -> None:
    """Nothing is done here; the descriptor that was written to tells the loop."""


def _tell(status: socket.socket, error: BaseException) -> None:
    text = "".join(traceback.format_exception(error))[-_MESSAGE_BYTES:]
    try:
        frames.send(status, {"event": "broken", "error": text})
    except OSError:  # the owner is gone as well
        return


def _kill_session(process: int) -> None:
    """End a session whose init has not been reaped; before it has made its group, it is alone."""
    _kill_group(process)
    os.kill(process, signal.SIGKILL)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # no such group, or only its zombies of another user
        return
