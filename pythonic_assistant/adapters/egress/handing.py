"""How a runner hands a listener to the broker: the token, and the descriptor beside it, on a Unix socket."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from typing import Final

from pythonic_assistant.adapters.egress.accepting import readable

_END: Final = b"\n"
_LONGEST: Final = 4096
_DESCRIPTORS: Final = 4  # more than the one that is wanted: what does not fit would be lost without a word


async def send(connection: socket.socket, token: str, listener: socket.socket) -> str:
    """Hand a listener over; returns why it was not taken, or nothing.

    Raises:
        OSError: the broker is gone.
        EOFError: it closed without an answer.
    """
    data = token.encode() + _END
    # The buffer of a fresh connection takes at least the first byte, which carries the descriptor.
    sent = socket.send_fds(connection, [data], [listener.fileno()])
    await asyncio.get_running_loop().sock_sendall(connection, data[sent:])
    arrived = bytearray()
    while not arrived.endswith(_END):
        arrived += await _some(connection)
    return arrived[:-1].decode()


async def receive(connection: socket.socket) -> tuple[str, socket.socket]:
    """Take a token and a listener, which the caller owns then.

    Raises:
        OSError, EOFError: the other side did not send both.
    """
    arrived, descriptors = bytearray(), list[int]()
    try:
        while not arrived.endswith(_END):
            await readable(connection)
            data, ancillary, _, _ = connection.recvmsg(
                _LONGEST, socket.CMSG_SPACE(4 * _DESCRIPTORS), socket.MSG_CMSG_CLOEXEC
            )
            descriptors += _descriptors(ancillary)
            arrived += data
            if not data or len(arrived) > _LONGEST or len(descriptors) > 1:
                raise EOFError("no token arrived")
        if not descriptors:
            raise EOFError("no descriptor arrived")
        token = arrived[:-1].decode("ascii", "replace")
        listener = socket.socket(fileno=descriptors[0])
        descriptors.clear()
        return token, listener
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


async def answer(connection: socket.socket, refusal: str) -> None:
    """Say that the listener was taken (nothing), or why not. A runner that is gone does not matter."""
    try:
        await asyncio.get_running_loop().sock_sendall(connection, refusal.encode() + _END)
    except ConnectionError:
        return


async def tell(connection: socket.socket, word: bytes) -> None:
    """Say a word to the broker while it serves, and wait until it has obeyed.

    Raises:
        OSError, EOFError: the broker is gone.
    """
    await asyncio.get_running_loop().sock_sendall(connection, word + _END)
    while not (await _some(connection)).endswith(_END):
        pass


async def words(connection: socket.socket) -> AsyncGenerator[bytes]:
    """Yield what the other side says until it closes; answer each with `answer`."""
    arrived = bytearray()
    try:
        while data := await asyncio.get_running_loop().sock_recv(connection, _LONGEST):
            arrived += data
            if len(arrived) > _LONGEST:
                return
            while _END in arrived:
                word, _, rest = bytes(arrived).partition(_END)
                arrived = bytearray(rest)
                yield word
    except ConnectionError:
        return


def is_listener(candidate: socket.socket) -> bool:
    """Whether it is a listening TCP socket."""
    return (
        candidate.family in (socket.AF_INET, socket.AF_INET6)
        and candidate.type == socket.SOCK_STREAM
        and candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    )


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


async def _some(connection: socket.socket) -> bytes:
    data = await asyncio.get_running_loop().sock_recv(connection, _LONGEST)
    if not data:
        raise EOFError("the broker closed the connection")
    return data
