"""A receiver of webhooks on loopback: keeps what it hears, and answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Received:
    """A request as it arrived; names of headers in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What was heard, and what is answered: one status after the other, the last one for ever.

    Attributes:
        extra: further lines of the head.
        body: of every answer.
    """

    port: int = 0
    statuses: list[int] = field(default_factory=lambda: [204])
    extra: str = ""
    body: bytes = b""
    heard: list[Received] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.heard.append(Received(head[0], headers, body))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        length = "" if status == 204 else f"Content-Length: {len(self.body)}\r\n"
        writer.write(f"HTTP/1.1 {status} As told\r\n{self.extra}{length}\r\n".encode())
        if status != 204:
            writer.write(self.body)
        try:
            await writer.drain()
        except ConnectionError:
            pass  # whoever has read enough goes away
        finally:
            writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Serve until the end of the block."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver
