"""What may stand between a worker and PostgreSQL: a network that fails, a pooler that shares sessions.

Both serve a Unix socket of their own in front of the real one. The protocol:
https://www.postgresql.org/docs/current/protocol-flow.html
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, quote, urlsplit

SOCKET = ".s.PGSQL.5432"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
NOT_STARTED = 8  # bytes of a startup packet's head: length and version
PROTOCOL = 196608  # 3.0


@dataclass
class Network:
    """Passes bytes on, until it is told not to.

    Attributes:
        open: new connections are taken.
        passing: cleared, nothing goes through any more and nobody is told.
    """

    real: str
    url: str = ""
    open: bool = True
    passing: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    def cut(self) -> None:
        """Drop every connection, and take none."""
        self.open = False
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        there, back = await asyncio.open_unix_connection(self.real)
        self.writers |= {writer, back}
        ways = [
            asyncio.create_task(self._pass(reader, back)),
            asyncio.create_task(self._pass(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the test has ended
        finally:
            for way in ways:
                way.cancel()
            self.writers -= {writer, back}
            for end in (writer, back):
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # cut: that is what it is for
            while data := await reader.read(1 << 16):
                await self.passing.wait()
                writer.write(data)
                await writer.drain()


class Pooler:
    """Gives each transaction another of a few sessions, as poolers in transaction mode do.

    Notifications that come to a session which nobody uses are dropped.
    """

    def __init__(self, real: str) -> None:
        self.real = real
        self.url = ""
        self.idle: asyncio.Queue[Stream] = asyncio.Queue()
        self.greeting = b""
        self.all: list[asyncio.StreamWriter] = []

    async def add(self) -> None:
        """Open one more session."""
        reader, writer = await asyncio.open_unix_connection(self.real)
        self.all.append(writer)
        words = b"user\0postgres\0database\0postgres\0\0"
        writer.write(struct.pack("!II", len(words) + NOT_STARTED, PROTOCOL) + words)
        greeting = b""
        async for kind, message in messages(reader):
            greeting += message
            if kind == b"Z":
                break
        self.greeting = greeting
        self.idle.put_nowait((reader, writer))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            length, code = struct.unpack("!II", await reader.readexactly(NOT_STARTED))
            await reader.readexactly(length - NOT_STARTED)
            if code == PROTOCOL:
                writer.write(self.greeting)
                await self._transactions(reader, writer)
        writer.transport.abort()

    async def _transactions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering: asyncio.Task[None] | None = None
        back = writer
        async for kind, message in messages(reader):
            if kind == b"X":
                break
            if answering is None or answering.done():
                there, back = await self.idle.get()
                answering = asyncio.create_task(self._answer((there, back), writer))
            back.write(message)
        if answering is not None and not answering.done():
            answering.cancel()  # left in the midst of a transaction: nobody else may have that session
            back.transport.abort()
            await self.add()

    async def _answer(self, session: Stream, writer: asyncio.StreamWriter) -> None:
        """Pass on what a session says until its transaction has ended."""
        async for kind, message in messages(session[0]):
            if kind == b"Z" and message.endswith(b"I"):
                self.idle.put_nowait(session)
                writer.write(message)
                return
            writer.write(message)

    async def close(self) -> None:
        for writer in self.all:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def messages(reader: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bytes]]:
    """The messages of a stream: their kinds, and the whole bytes."""
    while True:
        try:
            head = await reader.readexactly(5)
        except asyncio.IncompleteReadError:
            return
        (length,) = struct.unpack("!I", head[1:])
        yield head[:1], head + await reader.readexactly(length - 4)


def socket_of(url: str) -> str:
    """Where PostgreSQL listens, from an address with the folder of its socket."""
    return f"{parse_qs(urlsplit(url).query)['host'][0]}/{SOCKET}"


@asynccontextmanager
async def network(url: str) -> AsyncIterator[Network]:
    """A network in front of a database; `url` of what is given leads through it."""
    made = Network(socket_of(url))
    made.passing.set()
    with TemporaryDirectory() as folder:
        server = await asyncio.start_unix_server(made.serve, Path(folder) / SOCKET)
        made.url = f"postgresql://postgres@/postgres?host={quote(folder)}"
        try:
            yield made
        finally:
            server.close()
            made.cut()
            made.passing.set()


@asynccontextmanager
async def pooler(url: str, sessions: int = 3) -> AsyncIterator[Pooler]:
    """A pooler in front of a database; `url` of what is given leads through it."""
    made = Pooler(socket_of(url))
    with TemporaryDirectory() as folder:
        server = await asyncio.start_unix_server(made.serve, Path(folder) / SOCKET)
        made.url = f"postgresql://postgres@/postgres?host={quote(folder)}"
        for _ in range(sessions):
            await made.add()
        try:
            yield made
        finally:
            server.close()
            await made.close()
