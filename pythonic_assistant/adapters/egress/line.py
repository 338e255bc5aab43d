"""A stream to one peer, which may begin TLS; reads and writes wait for a peer that is slower."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any, Final

CHUNK: Final = 1 << 16
_FAREWELL_SECONDS: Final = 10.0  # a slow reader's last bytes are among it


class Line:
    """One connected socket. One reader and one writer at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        # A writer that was replaced by TLS must outlive it: it may close the socket when it is forgotten.
        self._replaced: asyncio.StreamWriter | None = None

    @classmethod
    async def accepted(cls, connection: socket.socket) -> Line:
        """Take over a connection that a listener gave."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def read(self) -> bytes:
        """Wait for some bytes; none at the end.

        Raises:
            OSError: the connection broke.
        """
        return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            OSError: the connection broke.
        """
        self._writer.write(data)
        await self._writer.drain()

    async def serve_tls(self, context: ssl.SSLContext, *, seconds: float) -> None:
        """Let the peer, which is the client, begin TLS.

        Raises:
            OSError: it did not, or not within `seconds`.
        """
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await loop.start_tls(
            self._writer.transport,
            protocol,
            context,
            server_side=True,
            ssl_handshake_timeout=seconds,
            ssl_shutdown_timeout=_FAREWELL_SECONDS,
        )
        if transport is None:  # the peer went away in the very moment
            raise ConnectionResetError("the peer closed during the TLS handshake")
        protocol.connection_made(transport)
        self._replaced = self._writer
        self._reader, self._writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    @property
    def tls(self) -> Any:
        """The TLS object, or None."""
        return self._writer.get_extra_info("ssl_object")

    @property
    def ended(self) -> bool:
        """Whether the peer has closed and everything was read."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def close(self) -> None:
        """Send what is left, say goodbye, and close; after ten seconds without."""
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._writer.wait_closed()
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()
        if self._replaced is not None:
            self._replaced.transport.abort()
