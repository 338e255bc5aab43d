"""Removes from Storage what no row needs any more. Any worker does it, now and then; none has to."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final, Protocol

from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError

log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 600.0
"""Between two looks of one worker, a fifth more or less; files are due after an hour at the earliest."""
MOST_AT_ONCE: Final = 100


class Removals(Protocol):
    """Files without a row. Both methods raise `StoreUnavailableError` and `InvalidInputError`."""

    async def due(self, most: int) -> tuple[str, ...]:
        """Return paths of files that are to be removed now."""
        ...

    async def remove(self, paths: tuple[str, ...]) -> None:
        """Remove files."""
        ...


async def sweep(removals: Removals) -> int:
    """Remove what is due; returns how many files that were.

    Raises:
        StoreUnavailableError: the database or Storage does not answer; what is left comes again later.
        InvalidInputError: Storage refuses; what is left comes again later.
    """
    count = 0
    while paths := await removals.due(MOST_AT_ONCE):
        await removals.remove(paths)
        count += len(paths)
    return count


async def keep_sweeping(removals: Removals) -> None:
    """Sweep now and then, until cancelled."""
    while True:
        # Not at once: a worker that starts has better things to do, and many may start together.
        await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            count = await sweep(removals)
        except (StoreUnavailableError, InvalidInputError) as error:
            log.warning("files not removed", extra={"action": "sweep", "reason": str(error)})
        else:
            if count:
                log.info("files without a row removed", extra={"action": "sweep", "files": count})
