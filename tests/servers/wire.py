"""A small HTTP/1.1 server in a thread, low enough to answer wrongly on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A request. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An answer.

    Attributes:
        announced: what Content-Length says, where that shall differ from the length of the body.
        delay: seconds before the answer is written.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None
    delay: float = 0.0


Handler = Callable[[Incoming], Awaitable[Outgoing]]


class WireServer:
    """Serves on a free port of loopback from `start` to `close`."""

    def __init__(self, handler: Handler, *, port: int = 0) -> None:
        self._handler = handler
        self._wanted_port = port
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._failure: OSError | None = None
        self.port = 0

    def start(self) -> None:
        """Listen. Returns when requests can be sent.

        Raises:
            OSError: the port is taken.
        """
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("The test server did not start within 10 seconds.")
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop listening, cut what hangs, and end the thread."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop ended by itself in between
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        open_connections: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            open_connections.add(task)
            try:
                await self._converse(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # the client went away, or the server closes: nothing is left to be said
            finally:
                open_connections.discard(task)
                writer.close()

        try:
            server = await asyncio.start_server(connected, "127.0.0.1", self._wanted_port)
        except OSError as error:
            self._failure = error
            self._ready.set()
            return
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tuple(open_connections):
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            method, path, _ = first.split(" ", 2)
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            answer = await self._handler(Incoming(method=method, path=path, headers=headers, body=body))
            await asyncio.sleep(answer.delay)
            length = len(answer.body) if answer.announced is None else answer.announced
            more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
            writer.write(
                f"HTTP/1.1 {answer.status} Status\r\nContent-Type: {answer.content_type}\r\n"
                f"Content-Length: {length}\r\n{more}\r\n".encode("latin-1")
                + answer.body
            )
            await writer.drain()
            if length != len(answer.body):
                return
