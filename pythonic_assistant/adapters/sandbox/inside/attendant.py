"""A process beside the zygote that makes a control group for each session and removes it at its end.

Putting a process into a group can take 8 ms (the kernel waits for all processors, cgroup_threadgroup_rwsem),
which is no matter for others: they are not kept waiting by a process that does nothing else.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from . import cgroup, frames

_SECONDS = 10.0
_RETRY_MILLISECONDS = 10


def start(groups: cgroup.Groups) -> tuple[int, socket.socket]:
    """Fork the attendant; return its process and the socket that sessions ask at.

    It ends when the last copy of that socket is closed. Nothing else of ours stays open in it.
    """
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        os.dup2(theirs.fileno(), 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        _serve(socket.socket(fileno=3), groups)
    theirs.close()
    return child, ours


def ask(attendant: socket.socket, code: int, limits: Mapping[str, int]) -> socket.socket:
    """Ask for a group that lasts as long as the calling process; return where the answer will come.

    Args:
        attendant: the socket to it.
        code: descriptor of the process that is put into the group.
        limits: of the session.
    """
    ours, theirs = socket.socketpair()
    itself = os.pidfd_open(os.getpid())
    memory_bytes, processes = cgroup.sizes(limits)
    socket.send_fds(attendant, [f"{memory_bytes} {processes}".encode()], [itself, code, theirs.fileno()])
    theirs.close()
    os.close(itself)
    return ours


def answer(channel: socket.socket) -> int:
    """Wait until the process is in its group; return the descriptor for `cgroup.deaths`.

    Raises:
        OSError: it could not be put in.
    """
    channel.settimeout(_SECONDS)
    try:
        message, descriptors = frames.receive(channel, 1)
    except EOFError as error:
        raise OSError("the process that makes control groups has ended") from error
    if not descriptors:
        raise OSError(f"no control group for the session: {message.get('error')}")
    return descriptors[0]


def _serve(requests: socket.socket, groups: cgroup.Groups) -> NoReturn:
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    sessions: dict[int, cgroup.Group] = {}
    ending: list[cgroup.Group] = []
    listening = True
    while listening or sessions or ending:
        for descriptor, _ in poll.poll(_RETRY_MILLISECONDS if ending else None):
            if descriptor == requests.fileno():
                listening = _accept(requests, groups, sessions, poll)
                if not listening:
                    poll.unregister(requests)
            else:
                poll.unregister(descriptor)
                os.close(descriptor)
                ending.append(sessions.pop(descriptor))
        ending = [group for group in ending if not group.remove()]
    os._exit(0)


def _accept(
    requests: socket.socket, groups: cgroup.Groups, sessions: dict[int, cgroup.Group], poll: select.poll
) -> bool:
    """Answer one request; False when there will be no more."""
    data, descriptors, _, _ = socket.recv_fds(requests, 128, 3)
    if not data:
        return False
    process, code, answering = descriptors
    channel = socket.socket(fileno=answering)
    with channel:
        try:
            memory_bytes, processes = (int(word) for word in data.split())
            group = groups.make(memory_bytes, processes)
            sessions[process] = group
            poll.register(process, select.POLLIN)
            group.add(_number(code))
            counter = group.counter()
        except OSError as error:
            _tell(channel, {"error": str(error)}, ())
            return True
        finally:
            os.close(code)
        _tell(channel, {}, (counter,))
        os.close(counter)
    return True


def _tell(channel: socket.socket, message: Mapping[str, str], descriptors: tuple[int, ...]) -> None:
    try:
        frames.send(channel, message, descriptors)
    except OSError:  # the session is gone; its end will be noticed
        return


def _number(process: int) -> int:
    """Return our number of the process behind a descriptor (proc_pid_fdinfo(5))."""
    for line in Path(f"/proc/self/fdinfo/{process}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    raise ProcessLookupError("the process has ended")
