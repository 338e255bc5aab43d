"""Waiting for a descriptor, for asyncio."""

from __future__ import annotations

import asyncio


async def readable(descriptor: int) -> None:
    """Wait until something can be read, accepted, or, from a pidfd, until its process has ended.

    Cancelling takes nothing away: whatever came in the same moment is still there for the next who waits.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
