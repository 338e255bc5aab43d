"""Prices at hand: read when a task needs one, and again when they are a minute old."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from typing import Protocol

from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.price import Price

log = logging.getLogger(__name__)

FRESH_SECONDS = 60.0
PATIENCE_SECONDS = 2.0
"""A task does not wait longer for prices: it runs with older ones, or with none."""
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


class PriceList(Protocol):
    """Where prices are written down."""

    async def current(self) -> Mapping[str, Price]:
        """Return the prices of today by the models' names.

        Raises:
            StoreUnavailableError, InvalidInputError: they cannot be read.
        """
        ...


class Pricing:
    """Tells what a model costs.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, prices: PriceList, clock: Callable[[], float] | None = None) -> None:
        self._list = prices
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._known: Mapping[str, Price] = {}
        self._read_at: float | None = None

    async def of(self, model: str) -> Price | None:
        """Return the price of a model; None when nobody has written it down, or it cannot be read."""
        now = self._clock()
        if self._read_at is None or now - self._read_at > FRESH_SECONDS:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    self._known = await self._list.current()
                self._read_at = now
            except (TimeoutError, StoreUnavailableError, InvalidInputError) as error:
                log.warning("prices not read", extra={"action": "prices", "reason": str(error)})
        return self._known.get(model) or self._known.get(_DATED.sub("", model))
