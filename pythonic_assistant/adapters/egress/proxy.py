"""Accepts the connections of a session on its listener."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from contextlib import ExitStack
from typing import Final

from pythonic_assistant.adapters.egress.accepting import accept
from pythonic_assistant.adapters.egress.connection import Connection
from pythonic_assistant.adapters.egress.line import Line
from pythonic_assistant.adapters.egress.means import Means

_log = logging.getLogger(__name__)
_CLOSED: Final = frozenset({errno.EBADF, errno.EINVAL})
_PAUSE_SECONDS: Final = 0.2


async def serve(listener: socket.socket, means: Means) -> None:
    """Answer until cancelled; then every connection is closed.

    Args:
        listener: in whatever network it lies; stays the caller's.
    """
    listener.setblocking(False)
    slots = asyncio.Semaphore(means.limits.connections)
    tasks: set[asyncio.Task[None]] = set()
    try:
        while True:
            await slots.acquire()
            try:
                connection = await accept(listener)
            except OSError as error:
                slots.release()
                if error.errno in _CLOSED:
                    return
                # No descriptor left, or a peer that is gone already: neither is a reason to stop.
                _log.warning("the egress proxy cannot accept", extra={"error": type(error).__name__})
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            task = asyncio.create_task(_answer(connection, means, slots))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(_ended)
            # Here, because a task that is cancelled before it has begun cleans nothing up.
            closing = ExitStack()
            closing.callback(slots.release)
            closing.callback(connection.close)
            task.add_done_callback(lambda _, closing=closing: closing.close())
    finally:
        ending = tuple(tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


async def _answer(connection: socket.socket, means: Means, slots: asyncio.Semaphore) -> None:
    await Connection(await Line.accepted(connection), means, slots.locked).run()


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        # Its text may hold what was sent: only its kind is written down.
        _log.error("a connection of the egress proxy broke", extra={"error": type(error).__name__})
