"""The host's side of one session: ask, drain, interrupt, kill, collect."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from pythonic_assistant.adapters.sandbox import ending
from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.collect import CollectLimits, collect
from pythonic_assistant.adapters.sandbox.hints import explained, output_cut
from pythonic_assistant.adapters.sandbox.lifeline import Lifeline
from pythonic_assistant.adapters.sandbox.output import Output, Stream
from pythonic_assistant.adapters.sandbox.questions import EndedError, OverdueError, Questions
from pythonic_assistant.adapters.sandbox.reach import WayOut
from pythonic_assistant.adapters.sandbox.saving import SAVE_SECONDS, keep, restored
from pythonic_assistant.adapters.sandbox.tool_calls import ToolCalls
from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.execution import Execution, ExecutionOutcome, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.domain.variable import SavedVariable, UnsavedVariable
from pythonic_assistant.ports import OnOutput, Toolbox

_LOOK_SECONDS = 3.0
_T = TypeVar("_T")
_MAX_NAME, _MAX_SUMMARY, _MAX_TEXT = 200, 2_000, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Handles:
    """What ties the host to a session; the session owns them.

    Attributes:
        init: channel of the session's init, out of reach of generated code.
        control: channel of the REPL; generated code may write to it.
        stdout, stderr: read ends, non-blocking.
        scratch: the scratch folder (O_PATH).
        init_process, code_process: pidfds.
    """

    init: Channel
    control: Channel
    stdout: int
    stderr: int
    scratch: int
    init_process: int
    code_process: int


class NamespaceSession:
    """A session in namespaces. See `ports.SandboxSession`.

    A cancelled `execute` or `variables` ends the session, because nobody could tell what its variables
    are then.
    """

    def __init__(
        self,
        handles: Handles,
        limits: SandboxLimits,
        collect_limits: CollectLimits,
        *,
        toolbox: Toolbox | None = None,
        way_out: WayOut | None = None,
    ) -> None:
        self._stdout, self._stderr, self._scratch = handles.stdout, handles.stderr, handles.scratch
        self._lifeline = Lifeline(handles.init, handles.init_process, handles.code_process, limits)
        self._questions = Questions(handles.control, self._lifeline, ToolCalls(toolbox))
        self._way_out = way_out
        self._limits = limits
        self._collect_limits = collect_limits
        self._turn = asyncio.Lock()
        self._closed = False
        self._skipped: tuple[str, ...] = ()

    @property
    def skipped(self) -> tuple[str, ...]:
        """One sentence for each file that the last `collect` left out although it looked like a result."""
        return self._skipped

    async def execute(
        self,
        code: str,
        *,
        timeout: float,
        on_output: OnOutput | None = None,
        checkpoint: bool = False,
    ) -> Execution:
        """Run code. See `ports.SandboxSession.execute`.

        Raises:
            SandboxDiedError: the session was already gone before this call.
            InvalidInputError: the code is larger than a message may be.
        """
        async with self._turn:
            self._questions.ensure_alive()
            began = time.monotonic()
            request: dict[str, Any] = {"op": "execute", "code": code}
            if checkpoint:
                request["checkpoint"] = True
            answer: Mapping[str, Any] = {}
            died = ""
            rolled_back = False
            output = Output(self._pipes(), self._limits.output_bytes, on_output)
            with output:
                try:
                    answer = await self._questions.ask(request, timeout)
                except EndedError as error:
                    died, rolled_back = str(error), error.rolled_back
                except OverdueError as error:
                    rolled_back = error.rolled_back
                    died = ending.overdue(timeout, kept=rolled_back)
                    if not rolled_back:
                        self._questions.ended = died
            outcome: ExecutionOutcome = "ok"
            if died:
                outcome = "died"
            elif answer.get("interrupted"):
                outcome = "timeout"
                died = f"{ending.interrupted(timeout)}\n{_text(answer, 'error')}"
            elif answer.get("ok") is not True:
                outcome = "error"
                died = explained(_text(answer, "error"), self._limits, self._scratch)
            return Execution(
                outcome=outcome,
                stdout=output.text("stdout"),
                stderr=output.text("stderr") + (output_cut(self._limits) if output.truncated else ""),
                value=_text(answer, "value"),
                error=died or _text(answer, "error"),
                seconds=time.monotonic() - began,
                truncated=output.truncated,
                rolled_back=rolled_back,
            )

    async def rollback(self) -> bool:
        """Return to the state that was kept. See `ports.SandboxSession.rollback`."""
        async with self._turn:
            self._questions.ensure_alive()
            # What the code's last processes wrote belongs to no execution any more.
            with Output(self._pipes(), 0, None):
                try:
                    control = await self._lifeline.rollback()
                except SandboxDiedError as error:
                    self._questions.ended = str(error)
                    raise
                except asyncio.CancelledError:
                    self._questions.ended = "The session was ended, because its rollback was cancelled."
                    self._lifeline.kill()
                    raise
            if control is None:
                return False
            await self._questions.go_on(control)
            return True

    async def save(self, into: Path) -> tuple[tuple[SavedVariable, ...], tuple[UnsavedVariable, ...]]:
        """Write the variables into a folder of the host. See `ports.SandboxSession.save`."""
        async with self._turn:
            answer = await self._look({"op": "save"}, SAVE_SECONDS, "Saving")
            with self._open_scratch() as scratch:
                found = await _in_thread(lambda stop: keep(scratch, answer, into, stop), "save")
            # What was copied takes disk and memory of the session. If it dies now, the next call says so.
            with suppress(SandboxDiedError):
                await self._look({"op": "clear"}, _LOOK_SECONDS, "Removing the copies of")
        return found

    async def restore(self) -> tuple[str, ...]:
        """Define what was saved. See `ports.SandboxSession.restore`."""
        async with self._turn:
            answer = await self._look({"op": "restore"}, SAVE_SECONDS, "Reading")
        return restored(answer)

    async def variables(self) -> tuple[VariableInfo, ...]:
        """Describe the public variables. See `ports.SandboxSession.variables`."""
        async with self._turn:
            answer = await self._look({"op": "variables"}, _LOOK_SECONDS, "Describing")
        listed = answer.get("variables")
        return tuple(
            _variable(entry) for entry in cast("list[Any]", listed if isinstance(listed, list) else [])
        )

    async def collect(self, into: Path) -> tuple[ArtifactFile, ...]:
        """Copy results out. See `ports.SandboxSession.collect`; works after the session has died, too."""
        if self._closed:
            raise SandboxDiedError("The session is closed, and its files with it.")
        with self._open_scratch() as scratch:
            limits = self._collect_limits
            found = await _in_thread(lambda stop: collect(scratch, into, limits, stop), "collect")
        self._skipped = tuple(found.skipped)
        return tuple(found.artifacts)

    async def __aenter__(self) -> Self:
        """Use as an async context manager: leaving closes."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """End every process and free the disk. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._questions.ended = self._questions.ended or "The session is closed."
        self._lifeline.kill()
        try:
            await self._lifeline.gone()
        finally:
            await self._questions.close()
            if self._way_out is not None:
                await self._way_out.close()
            self._lifeline.close()
            for descriptor in (self._stdout, self._stderr, self._scratch):
                os.close(descriptor)

    async def _look(self, request: Mapping[str, Any], seconds: float, doing: str) -> dict[str, Any]:
        """Ask for something about the variables, which may print while they are looked at."""
        self._questions.ensure_alive()
        with Output(self._pipes(), 0, None):
            try:
                return await self._questions.ask(request, seconds)
            except EndedError as error:
                raise SandboxDiedError(str(error)) from error
            except OverdueError as error:
                self._questions.ended = (
                    f"{doing} the variables took too long and could not be interrupted; "
                    "the session and its variables are gone."
                )
                raise SandboxDiedError(self._questions.ended) from error

    @contextmanager
    def _open_scratch(self) -> Generator[int, None, None]:
        """Lend the scratch folder: a copy goes on with its own descriptor, whatever happens meanwhile."""
        scratch = os.dup(self._scratch)
        try:
            yield scratch
        finally:
            os.close(scratch)

    def _pipes(self) -> dict[Stream, int]:
        return {"stdout": self._stdout, "stderr": self._stderr}


async def _in_thread(work: Callable[[threading.Event], _T], name: str) -> _T:
    """Run blocking work; a cancellation stops it early and waits for its end."""
    stop = threading.Event()
    task = asyncio.create_task(asyncio.to_thread(work, stop), name=name)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _text(answer: Mapping[str, Any], key: str) -> str:
    """Read a text that generated code may have forged: bounded, and without lone surrogates."""
    value = answer.get(key)
    return value[:_MAX_TEXT].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _variable(entry: Any) -> VariableInfo:
    nothing: dict[str, Any] = {}
    known: Mapping[str, Any] = cast("dict[str, Any]", entry) if isinstance(entry, dict) else nothing
    return VariableInfo(
        name=_text(known, "name")[:_MAX_NAME],
        type=_text(known, "type")[:_MAX_NAME],
        summary=_text(known, "summary")[:_MAX_SUMMARY],
    )
