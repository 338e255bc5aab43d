"""Waits on sockets so that a cancelled wait loses nothing; `loop.sock_accept` may drop a connection."""

from __future__ import annotations

import asyncio
import socket


async def readable(waiting: socket.socket) -> None:
    """Wait until there is something to read, or to accept."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    descriptor = waiting.fileno()
    loop.add_reader(descriptor, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def accept(listener: socket.socket) -> socket.socket:
    """Wait for a connection, which the caller owns then.

    Raises:
        OSError: the listener is closed, or this process has no descriptor left.
    """
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            await readable(listener)
            continue
        connection.setblocking(False)
        return connection
