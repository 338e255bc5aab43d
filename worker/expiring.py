"""Lets tasks go on that nobody has decided about in time."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final, Protocol

from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError

log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 120.0
"""Days are waited for: some minutes more do not matter, and an idle worker shall stay idle."""


class Approvals(Protocol):
    """What people have been asked."""

    async def expire_approvals(self) -> int:
        """End what is too old; returns how many. Raises `StoreUnavailableError`."""
        ...


async def keep_expiring(approvals: Approvals, *, pause: float = PAUSE_SECONDS) -> None:
    """Look again and again, until cancelled."""
    while True:
        # Not all workers of a project at the same moment.
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
        try:
            count = await approvals.expire_approvals()
        except (StoreUnavailableError, InvalidInputError) as error:
            log.warning("approvals not looked at", extra={"action": "expire", "reason": str(error)})
            continue
        if count:
            log.info("approvals expired", extra={"action": "expire", "count": count})
