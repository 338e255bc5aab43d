"""Tools that code calls: run here, where the database is, for the task's person and thread alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.errors import InvalidInputError, ToolError
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.ports import EffectLedger
from pythonic_assistant.tools.built_in import ASK_PERSON, EARLIER_TASKS, THREAD_FILES
from pythonic_assistant.tools.registry import CheckedToolbox, Tool, toolbox_of
from pythonic_assistant.wire import ToolAnswered, ToolAsked
from worker.performing import Performing

log = logging.getLogger(__name__)

MOST_WAITING: Final = 64
"""Calls of one task that may wait for their answers; code that asks more at once is refused."""
MOST_AT_ONCE: Final = 4
"""Calls of one task that run at the same time."""


class Records(Protocol):
    """What tools look up. Both raise `StoreUnavailableError`."""

    async def earlier_tasks(self, user_id: str, words: str, most: int) -> list[dict[str, Any]]:
        """Return ended tasks of a person."""
        ...

    async def thread_files(self, thread_id: str) -> list[dict[str, Any]]:
        """Return files that tasks of a thread left."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """For whom a tool works. Nothing of it comes from the code that calls."""

    user_id: str
    thread_id: str | None
    records: Records


async def _earlier_tasks(context: Context, arguments: Mapping[str, Any]) -> Any:
    return await context.records.earlier_tasks(context.user_id, arguments["words"], arguments["limit"])


async def _thread_files(context: Context, _arguments: Mapping[str, Any]) -> Any:
    return await context.records.thread_files(context.thread_id) if context.thread_id is not None else []


TOOLS: Final[dict[str, Tool[Context]]] = {}
"""Every tool that this worker can run, by its name."""


def register(*tools: Tool[Context]) -> None:
    """Add tools that assistants may grant.

    Raises:
        InvalidInputError: there is a tool of this name.
    """
    for tool in tools:
        if tool.spec.name in TOOLS:
            raise InvalidInputError(f"There is a tool {tool.spec.name!r} already.")
        TOOLS[tool.spec.name] = tool


register(
    Tool(spec=EARLIER_TASKS, run=_earlier_tasks),
    Tool(spec=THREAD_FILES, run=_thread_files),
    Tool(spec=ASK_PERSON, asks=True),
)


def tools_of(names: Iterable[str]) -> tuple[Tool[Context], ...]:
    """Return the tools of these names, each once, in their order.

    Raises:
        InvalidInputError: there is no tool of a name.
    """
    wanted = tuple(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in TOOLS]
    if unknown:
        raise InvalidInputError(
            f"There is no tool {unknown[0][:100]!r}; the tools are {', '.join(TOOLS)}. "
            "Take the name out of the assistant's tools."
        )
    return tuple(TOOLS[name] for name in wanted)


class TaskTools:
    """The tools that a task's assistant grants.

    Args:
        ledger: of the attempt; what is not only reading goes through it.

    Raises:
        InvalidInputError: there is no tool of a name that the assistant grants.
    """

    def __init__(self, task: ClaimedTask, records: Records, ledger: EffectLedger) -> None:
        self._tools = tools_of(task.tools)
        self._context = Context(user_id=task.user_id, thread_id=task.thread_id, records=records)
        self._ledger = ledger
        self.specs: tuple[ToolSpec, ...] = tuple(tool.spec for tool in self._tools)
        self._toolbox(Place())  # tells what is wrong with a tool before anything runs

    async def answer(self, asked: ToolAsked) -> ToolAnswered:
        """Call a tool; what goes wrong is the answer."""
        try:
            value = await self._toolbox(asked.place).call(asked.tool, asked.arguments)
        except ToolError as error:
            return ToolAnswered(id=asked.id, error=str(error))
        return ToolAnswered(id=asked.id, value=value)

    def _toolbox(self, place: Place) -> CheckedToolbox:
        performing = Performing[Context](self._ledger, place)
        return toolbox_of(self._tools, self._context, performing)


class Answering:
    """Answers a runner's asks while it runs; `close` drops those that are still open.

    Args:
        send: writes an answer to the runner.
    """

    def __init__(self, tools: TaskTools, send: Callable[[ToolAnswered], Awaitable[None]]) -> None:
        self._tools = tools
        self._send = send
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)
        self._open: set[asyncio.Task[None]] = set()

    def ask(self, asked: ToolAsked) -> None:
        """Answer soon."""
        answering = asyncio.create_task(self._answer(asked, refused=len(self._open) >= MOST_WAITING))
        self._open.add(answering)
        answering.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """Drop what is open; nothing is sent after this."""
        dropped = tuple(self._open)
        for answering in dropped:
            answering.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)

    async def _answer(self, asked: ToolAsked, *, refused: bool) -> None:
        if refused:
            answered = ToolAnswered(
                id=asked.id, error=f"{MOST_WAITING} calls of tools wait already: wait for some of them first."
            )
        else:
            async with self._at_once:
                answered = await self._tools.answer(asked)
        try:
            await self._send(answered)
        except (BrokenPipeError, ConnectionResetError):
            log.info("the runner of an answer is gone", extra={"action": "tool_answer_late"})
