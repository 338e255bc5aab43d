"""Questions to the REPL of a session, each with one answer in a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.adapters.sandbox.lifeline import Lifeline
from pythonic_assistant.adapters.sandbox.tool_calls import ToolCalls
from pythonic_assistant.domain.errors import InvalidInputError, SandboxDiedError

_GRACE_SECONDS = 1.0  # between the interrupt and the kill


class EndedError(Exception):
    """The code's process is gone; the argument says why.

    Attributes:
        rolled_back: whether the state before the code took over, and the session goes on.
    """

    def __init__(self, sentence: str, *, rolled_back: bool) -> None:
        super().__init__(sentence)
        self.rolled_back = rolled_back


class OverdueError(Exception):
    """The code neither ended nor obeyed the interrupt, and was ended.

    Attributes:
        rolled_back: whether the state before the code took over, and the session goes on.
    """

    def __init__(self, *, rolled_back: bool) -> None:
        super().__init__()
        self.rolled_back = rolled_back


class Questions:
    """Asks, interrupts at the timeout, and kills a grace later. One question at a time.

    Args:
        control: channel of the REPL, owned from now on; generated code may write to it.
        lifeline: to the session's processes.
        tools: answers what the code asks for meanwhile.
    """

    def __init__(self, control: Channel, lifeline: Lifeline, tools: ToolCalls) -> None:
        self._control = control
        self._lifeline = lifeline
        self._tools = tools
        self._number = 0
        self.ended: str | None = None

    def ensure_alive(self) -> None:
        """Raise `SandboxDiedError` with the reason once the session is gone."""
        if self.ended is not None:
            raise SandboxDiedError(self.ended)

    async def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            InvalidInputError: the request is larger than a message may be.
            EndedError: the code's process ended.
            OverdueError: it took too long.
        """
        self._number += 1
        self._tools.begin()
        try:
            data = frames.encode({**request, "id": self._number})
        except frames.FrameError as error:
            raise InvalidInputError("The code is too long to be run in one piece.") from error
        try:
            try:
                async with asyncio.timeout(seconds):
                    await self._tools.written()
                    await self._control.write(data)
                    return await self._answer()
            except TimeoutError:
                self._lifeline.interrupt()
                await self._tools.stop()
            try:
                async with asyncio.timeout(_GRACE_SECONDS):
                    return await self._answer()
            except TimeoutError:
                raise OverdueError(rolled_back=await self._rescued(request)) from None
        except frames.FrameError as error:
            rolled_back = await self._rescued(request)
            after = "its variables are as before" if rolled_back else "the session was ended"
            sentence = (
                f"The code wrote to the sandbox's own control channel, and {after}. Leave descriptor 3 alone."
            )
            if not rolled_back:
                self.ended = sentence
            raise EndedError(sentence, rolled_back=rolled_back) from error
        except (EOFError, OSError) as error:
            end = await self._lifeline.ending()
            if end.control is None:
                self.ended = end.sentence
            else:
                await self.go_on(end.control)
            raise EndedError(end.sentence, rolled_back=end.control is not None) from error
        except asyncio.CancelledError:
            self.ended = "The session was ended, because what it was doing was cancelled."
            self._lifeline.kill()
            raise
        finally:
            await self._tools.stop()

    async def _rescued(self, request: Mapping[str, Any]) -> bool:
        """End code that cannot be talked to any more: only itself where a state before it is kept."""
        control = None
        if request["op"] == "execute":
            try:
                control = await self._lifeline.rollback()
            except SandboxDiedError:
                return False
        if control is None:
            self._lifeline.kill()
            return False
        await self.go_on(control)
        return True

    async def go_on(self, control: Channel) -> None:
        """Ask another REPL from now on, the one that took over."""
        await self.close()
        self._control = control

    async def close(self) -> None:
        """Close the channel, after the tools have let go of it."""
        await self._tools.close()
        self._control.close()

    async def _answer(self) -> dict[str, Any]:
        while (answer := await self._control.receive()).get("op") == "tool":
            self._tools.start(answer, self._control)
        if answer.get("id") != self._number:
            raise frames.FrameError("an answer to a question that was not asked")
        return answer
