"""That sessions cannot be had any more, told to everybody who waits to hear of it."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from pythonic_assistant.domain.errors import SandboxUnavailableError


class Loss:
    """Happens at most once; the first reason stays."""

    def __init__(self) -> None:
        self._happened = asyncio.Event()
        self._reason = ""

    def tell(self, reason: str) -> None:
        """Say that it has happened, and why."""
        if not self._happened.is_set():
            self._reason = reason
            self._happened.set()

    async def wait(self) -> NoReturn:
        """Wait for it.

        Raises:
            SandboxUnavailableError: it has happened; the message is the reason.
        """
        await self._happened.wait()
        raise SandboxUnavailableError(self._reason)

    def clear(self) -> None:
        """Begin anew."""
        self._happened.clear()
