"""Messages over a socket, for asyncio. See `inside/frames.py` for their form."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.adapters.sandbox.readable import readable

_CHUNK = 1 << 16


class Channel:
    """One side of a stream socket. One reader and one writer at a time.

    Cancelling a wait loses nothing: what has arrived stays for the next call.

    Args:
        connection: owned from now on.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._arrived = bytearray()
        self._descriptors: list[int] = []

    async def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message, with descriptors beside it.

        Raises:
            FrameError: the message is too large.
            OSError: the other side is gone, and has not got the whole message.
        """
        data = frames.encode(message)
        if descriptors:
            # A fresh connection's buffer takes at least the first byte, which carries the descriptors.
            sent = socket.send_fds(self._socket, [data], list(descriptors))
            data = data[sent:]
        # An empty rest is not written: who has got everything may have closed, and the kernel would tell
        # that as a failure (EPIPE) of what has succeeded.
        if data:
            await self.write(data)

    async def write(self, data: bytes) -> None:
        """Send an encoded message, or the rest of one."""
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self) -> dict[str, Any]:
        """Wait for a message. Descriptors that come with it are closed by the kernel.

        Raises:
            EOFError: the other side closed.
            FrameError: not a message.
        """
        loop = asyncio.get_running_loop()
        while (payload := self._taken()) is None:
            chunk = await loop.sock_recv(self._socket, _CHUNK)
            if not chunk:
                raise EOFError("the other side closed the channel")
            self._arrived += chunk
        return frames.decode(payload)

    async def receive_with_descriptors(self, count: int) -> tuple[dict[str, Any], list[int]]:
        """Wait for a message and up to `count` descriptors, which the caller owns then.

        Only for sides that are trusted: descriptors of a hostile side would fill our table.
        """
        while (payload := self._taken()) is None:
            await readable(self._socket.fileno())
            chunk, ancillary, _, _ = self._socket.recvmsg(_CHUNK, socket.CMSG_SPACE(4 * count))
            self._descriptors += frames.descriptors_of(ancillary)
            if not chunk:
                raise EOFError("the other side closed the channel")
            self._arrived += chunk
        descriptors, self._descriptors = self._descriptors, []
        return frames.decode(payload), descriptors

    async def last_message(self) -> dict[str, Any]:
        """Wait until the other side closes; return the last that it has sent, or nothing."""
        last: dict[str, Any] = {}
        try:
            while True:
                last = await self.receive()
        except (EOFError, ConnectionError, frames.FrameError):
            return last

    def close(self) -> None:
        """Close the socket and descriptors that nobody took. May be called twice."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        self._socket.close()

    def _taken(self) -> bytes | None:
        """Take one whole message off what has arrived."""
        if len(self._arrived) < frames.HEADER.size:
            return None
        end = frames.HEADER.size + frames.length(bytes(self._arrived[: frames.HEADER.size]))
        if len(self._arrived) < end:
            return None
        payload = bytes(self._arrived[frames.HEADER.size : end])
        del self._arrived[:end]
        return payload
