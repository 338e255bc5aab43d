"""Tools that run in another process: each call is a line there and a line back, matched by its number."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.errors import ToolError
from pythonic_assistant.wire import ToolAnswered, ToolAsked

log = logging.getLogger(__name__)


class Asking:
    """The runner's end. Calls may overlap; each waits for the answer of its own number."""

    def __init__(self, send: Callable[[ToolAsked], None]) -> None:
        """Ask through `send`, which writes a line."""
        self._send = send
        self._last = 0
        self._waiting: dict[int, asyncio.Future[ToolAnswered]] = {}
        self._place = Place()

    async def entering(self, place: Place) -> None:
        """Say which execution the calls belong to that come from now on."""
        self._place = place

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Ask for a tool's result. There is no deadline here; see `CheckedToolbox`.

        Raises:
            ToolError: as the other end says.
        """
        self._last += 1
        number = self._last
        answer: asyncio.Future[ToolAnswered] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send(ToolAsked(id=number, tool=name, arguments=dict(arguments), place=self._place))
            answered = await answer
        finally:
            del self._waiting[number]
        if answered.error is not None:
            raise ToolError(answered.error)
        return answered.value

    def answer(self, answered: ToolAnswered) -> None:
        """Take an answer; one that nobody waits for any more is dropped."""
        waiting = self._waiting.get(answered.id)
        if waiting is None or waiting.done():
            log.warning("an answer that nobody waits for", extra={"action": "tool_answer_dropped"})
            return
        waiting.set_result(answered)
