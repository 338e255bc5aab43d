"""Asks a child on loopback whether it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from supervisor.ports import HOST

_ANSWER_SECONDS = 2.0
_POLL_SECONDS = 0.05
_MOST_BYTES = 1 << 16  # of an answer; what comes after is not read


async def answers(port: int, path: str) -> bool:
    """Whether `GET path` on a loopback port is answered with status 200 within two seconds."""
    return await _body(port, path) is not None


async def until_answers(port: int, path: str) -> None:
    """Wait until `answers`. The caller sets the deadline."""
    while not await answers(port, path):  # noqa: ASYNC110  another process becomes ready, no event tells
        await asyncio.sleep(_POLL_SECONDS)


async def until_started(port: int, path: str, report: Callable[[str], None]) -> None:
    """Wait until `answers`, and report what the answer says, if anything: it runs, but something is amiss."""
    while (said := await _body(port, path)) is None:  # noqa: ASYNC110  as above
        await asyncio.sleep(_POLL_SECONDS)
    if words := said.decode(errors="replace").strip():
        report(words)


async def _body(port: int, path: str) -> bytes | None:
    """What `GET path` gives with status 200; None for anything else."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port, limit=_MOST_BYTES)
            try:
                # HTTP/1.0: the body ends with the connection (RFC 1945, section 7.2), so it has no chunks.
                request = f"GET {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                words = (await reader.readline()).split()
                if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or words[1] != b"200":
                    return None
                while await reader.readline() not in (b"\r\n", b"\n", b""):
                    pass
                return await _rest(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None


async def _rest(reader: asyncio.StreamReader) -> bytes:
    rest = b""
    while len(rest) < _MOST_BYTES and (piece := await reader.read(_MOST_BYTES)):
        rest += piece
    return rest
