"""Calls of granted tools that generated code makes, answered one at a time while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, cast

from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.domain.errors import ToolError
from pythonic_assistant.ports import Toolbox

_MOST_CALLS = 1_000  # of one execution
_MOST_WAITING = 64
_MAX_ERROR = 4_000
_STOP_SECONDS = 5.0
_log = logging.getLogger(__name__)


class ToolCalls:
    """Runs what code asks for. Nothing in a request is believed; the toolbox checks the arguments.

    Args:
        toolbox: the granted tools; None where there are none.
    """

    def __init__(self, toolbox: Toolbox | None) -> None:
        self._toolbox = toolbox
        self._made = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Count anew, for the next execution."""
        self._made = 0

    def start(self, message: Mapping[str, Any], control: Channel) -> None:
        """Answer a request on the channel that it came by, in the background.

        Raises:
            FrameError: it is no request that the session's own functions make.
        """
        number, name, arguments = message.get("call"), message.get("name"), message.get("arguments")
        if self._toolbox is None or not isinstance(number, int):
            raise frames.FrameError("a tool is asked for where there is none")
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise frames.FrameError("a tool's request without a name or arguments")
        if len(self._calls) >= _MOST_WAITING:
            # The functions take turns; a call that a signal interrupted may still be running here.
            raise frames.FrameError("tools are asked for without waiting for their answers")
        self._made += 1
        work = self._answer(self._toolbox, number, name, cast("dict[str, Any]", arguments), control)
        task = asyncio.create_task(work, name=f"tool {name[:40]}")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def stop(self) -> None:
        """Cancel calls that are running; their answers are not wanted any more."""
        calls = tuple(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls, timeout=_STOP_SECONDS)

    async def written(self) -> None:
        """Wait until an answer that is on its way has been written."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Stop everything, before the channel is closed."""
        await self.stop()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])

    async def _answer(
        self, toolbox: Toolbox, number: int, name: str, arguments: Mapping[str, Any], control: Channel
    ) -> None:
        async with self._turn:
            data = await self._answered(toolbox, number, name, arguments)
            await self.written()
            # A message must not be cut in two, even if the call is cancelled now.
            self._writing = asyncio.create_task(_write(control, data), name="tool answer")
            await asyncio.shield(self._writing)

    async def _answered(
        self, toolbox: Toolbox, number: int, name: str, arguments: Mapping[str, Any]
    ) -> bytes:
        if self._made > _MOST_CALLS:
            return _refusal(
                number, f"One step may call tools {_MOST_CALLS:,} times. Ask for more at once, or for less."
            )
        try:
            return frames.encode({"call": number, "value": await toolbox.call(name, arguments)})
        except ToolError as error:
            return _refusal(number, str(error))
        except frames.FrameError as error:
            return _refusal(number, f"The result of {name} is too large: {error}. Ask for less.")
        except Exception:  # noqa: BLE001  (a mistake of ours: the log tells it, the code hears that it failed)
            _log.exception("a tool failed", extra={"action": "tool_failed"})
            return _refusal(number, f"The tool {name[:100]} failed for a reason of its own.")


async def _write(control: Channel, data: bytes) -> None:
    try:
        await control.write(data)
    except OSError:  # the session is gone; whoever waits for its answer hears of it
        return


def _refusal(number: int, text: str) -> bytes:
    return frames.encode({"call": number, "error": text[:_MAX_ERROR]})
