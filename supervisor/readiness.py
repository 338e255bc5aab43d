"""Asks a child on loopback whether it is ready."""

from __future__ import annotations

import asyncio

from supervisor.ports import HOST

_ANSWER_SECONDS = 2.0
_POLL_SECONDS = 0.05


async def answers(port: int, path: str) -> bool:
    """Whether `GET path` on a loopback port is answered with status 200 within two seconds."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                request = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    words = status.split()
    return len(words) >= 2 and words[0].startswith(b"HTTP/1.") and words[1] == b"200"


async def until_answers(port: int, path: str) -> None:
    """Wait until `answers`. The caller sets the deadline."""
    while not await answers(port, path):  # noqa: ASYNC110  another process becomes ready, no event tells
        await asyncio.sleep(_POLL_SECONDS)
