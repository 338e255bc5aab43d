"""Messages between host, init and REPL: four bytes of length, then one JSON object; descriptors beside it.

What comes out of a session is written by whoever runs in it, so reading is bounded and refuses everything
that is not one JSON object. Nothing is ever unpickled.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, cast

HEADER = struct.Struct("!I")
MAX_FRAME_BYTES = 8 << 20
# SCM_MAX_FD, include/net/scm.h
MAX_DESCRIPTORS = 253


class FrameError(Exception):
    """The other side sent something that is not a message."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Return the bytes of a message.

    Raises:
        FrameError: the message is larger than a frame may be.
    """
    payload = json.dumps(message).encode()
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameError(f"a message of {len(payload)} bytes is larger than {MAX_FRAME_BYTES}")
    return HEADER.pack(len(payload)) + payload


def length(header: bytes) -> int:
    """Return the payload's length from the four bytes before it.

    Raises:
        FrameError: larger than a frame may be.
    """
    size = int(HEADER.unpack(header)[0])
    if size > MAX_FRAME_BYTES:
        raise FrameError(f"a message announces {size} bytes; {MAX_FRAME_BYTES} are allowed")
    return size


def decode(payload: bytes) -> dict[str, Any]:
    """Return the object in a payload.

    Raises:
        FrameError: not JSON, nested too deeply, or not an object.
    """
    try:
        message: Any = json.loads(payload)
    except (ValueError, RecursionError) as error:  # deep nesting exhausts the parser's stack
        raise FrameError(f"a message cannot be read: {type(error).__name__}") from error
    if not isinstance(message, dict):
        raise FrameError("a message is not an object")
    return cast("dict[str, Any]", message)


def send(channel: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one message, waiting as long as it takes."""
    data = encode(message)
    sent = 0
    if descriptors:  # else no sendmsg(2), which not every session may call
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        sent = channel.sendmsg([data], [rights])
    if sent < len(data):
        channel.sendall(data[sent:])


def receive(channel: socket.socket, max_descriptors: int = 0) -> tuple[dict[str, Any], list[int]]:
    """Wait for one message and the descriptors beside it.

    Raises:
        EOFError: the other side closed.
        FrameError: not a message.
    """
    descriptors: list[int] = []
    try:
        size = length(_exactly(channel, HEADER.size, max_descriptors, descriptors))
        return decode(_exactly(channel, size, max_descriptors, descriptors)), descriptors
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def descriptors_of(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that recvmsg brought."""
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _exactly(channel: socket.socket, size: int, max_descriptors: int, descriptors: list[int]) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        if max_descriptors:
            data, ancillary, _, _ = channel.recvmsg(size - len(parts), socket.CMSG_SPACE(4 * max_descriptors))
            descriptors += descriptors_of(ancillary)
        else:
            data = channel.recv(size - len(parts))
        if not data:
            raise EOFError("the other side closed the channel")
        parts += data
    return bytes(parts)
