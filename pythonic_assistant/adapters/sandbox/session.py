"""The host's side of one session: ask, drain, interrupt, kill, collect."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from pythonic_assistant.adapters.sandbox import ending
from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.collect import CollectLimits, collect
from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.adapters.sandbox.output import Output, Stream
from pythonic_assistant.domain.errors import InvalidInputError, SandboxDiedError
from pythonic_assistant.domain.execution import Execution, ExecutionOutcome, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.ports import OnOutput

_GRACE_SECONDS = 1.0  # between the interrupt and the kill
_END_SECONDS = 2.0  # for the reason of an end to arrive, and for processes to be gone
_CLOSED_SECONDS = 0.5  # between the end of the REPL's channel and its own
_VARIABLES_SECONDS = 3.0
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


class _EndedError(Exception):
    """The session is gone; the argument says why."""


class _OverdueError(Exception):
    """The code neither ended nor obeyed the interrupt."""


class NamespaceSession:
    """A session in namespaces. See `ports.SandboxSession`.

    A cancelled `execute` or `variables` ends the session, because nobody could tell what its variables
    are then.
    """

    def __init__(self, handles: Handles, limits: SandboxLimits, collect_limits: CollectLimits) -> None:
        self._handles = handles
        self._limits = limits
        self._collect_limits = collect_limits
        self._turn = asyncio.Lock()
        self._request = 0
        self._ended: str | None = None
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
    ) -> Execution:
        """Run code. See `ports.SandboxSession.execute`.

        Raises:
            SandboxDiedError: the session was already gone before this call.
            InvalidInputError: the code is larger than a message may be.
        """
        async with self._turn:
            self._ensure_alive()
            pipes: dict[Stream, int] = {"stdout": self._handles.stdout, "stderr": self._handles.stderr}
            began = time.monotonic()
            answer: Mapping[str, Any] = {}
            died = ""
            output = Output(pipes, self._limits.output_bytes, on_output)
            with output:
                try:
                    answer = await self._ask({"op": "execute", "code": code}, timeout)
                except _EndedError as error:
                    died = str(error)
                except _OverdueError:
                    died = (
                        f"The code ran longer than {timeout:g} seconds and did not stop when it was "
                        "interrupted. The session and its variables are gone."
                    )
                    self._ended = died
            outcome: ExecutionOutcome = "ok"
            if died:
                outcome = "died"
            elif answer.get("interrupted"):
                outcome = "timeout"
                died = (
                    f"The code ran longer than {timeout:g} seconds and was interrupted; variables are kept.\n"
                    + _text(answer, "error")
                )
            elif answer.get("ok") is not True:
                outcome = "error"
            return Execution(
                outcome=outcome,
                stdout=output.text("stdout"),
                stderr=output.text("stderr"),
                value=_text(answer, "value"),
                error=died or _text(answer, "error"),
                seconds=time.monotonic() - began,
                truncated=output.truncated,
            )

    async def variables(self) -> tuple[VariableInfo, ...]:
        """Describe the public variables. See `ports.SandboxSession.variables`."""
        async with self._turn:
            self._ensure_alive()
            pipes: dict[Stream, int] = {"stdout": self._handles.stdout, "stderr": self._handles.stderr}
            # A __repr__ may print, and would wait for a reader.
            with Output(pipes, 0, None):
                try:
                    answer = await self._ask({"op": "variables"}, _VARIABLES_SECONDS)
                except _EndedError as error:
                    raise SandboxDiedError(str(error)) from error
                except _OverdueError as error:
                    self._ended = (
                        "Describing the variables took too long and could not be interrupted; "
                        "the session and its variables are gone."
                    )
                    raise SandboxDiedError(self._ended) from error
        listed = answer.get("variables")
        return tuple(
            _variable(entry) for entry in cast("list[Any]", listed if isinstance(listed, list) else [])
        )

    async def collect(self, into: Path) -> tuple[ArtifactFile, ...]:
        """Copy results out. See `ports.SandboxSession.collect`; works after the session has died, too."""
        if self._closed:
            raise SandboxDiedError("The session is closed, and its files with it.")
        # The copy goes on with its own descriptor, whatever happens to the session meanwhile.
        scratch = os.dup(self._handles.scratch)
        stop = threading.Event()
        work = asyncio.create_task(
            asyncio.to_thread(collect, scratch, into, self._collect_limits, stop), name="collect"
        )
        try:
            found = await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.gather(work, return_exceptions=True)
            raise
        finally:
            os.close(scratch)
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
        self._ended = self._ended or "The session is closed."
        handles = self._handles
        self._kill()
        try:
            await self._gone()
        finally:
            handles.control.close()
            handles.init.close()
            for descriptor in (
                handles.stdout,
                handles.stderr,
                handles.scratch,
                handles.init_process,
                handles.code_process,
            ):
                os.close(descriptor)

    def _ensure_alive(self) -> None:
        if self._ended is not None:
            raise SandboxDiedError(self._ended)

    async def _ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and wait for its answer; interrupt at the timeout, kill a grace later."""
        self._request += 1
        try:
            data = frames.encode({**request, "id": self._request})
        except frames.FrameError as error:
            raise InvalidInputError("The code is too long to be run in one piece.") from error
        try:
            try:
                async with asyncio.timeout(seconds):
                    await self._handles.control.write(data)
                    return await self._answer()
            except TimeoutError:
                self._interrupt()
            try:
                async with asyncio.timeout(_GRACE_SECONDS):
                    return await self._answer()
            except TimeoutError:
                self._kill()
                raise _OverdueError from None
        except frames.FrameError as error:
            self._kill()
            self._ended = (
                "The code wrote to the sandbox's own control channel, and the session was ended. "
                "Leave descriptor 3 alone."
            )
            raise _EndedError(self._ended) from error
        except (EOFError, OSError) as error:
            self._ended = await self._reason()
            raise _EndedError(self._ended) from error
        except asyncio.CancelledError:
            self._ended = "The session was ended, because what it was doing was cancelled."
            self._kill()
            raise

    async def _answer(self) -> dict[str, Any]:
        answer = await self._handles.control.receive()
        if answer.get("id") != self._request:
            raise frames.FrameError("an answer to a question that was not asked")
        return answer

    async def _reason(self) -> str:
        """Say why the session ended; the REPL's channel is closed, so the end is certain or made so."""
        try:
            async with asyncio.timeout(_END_SECONDS):
                await _ended(self._handles.code_process, _CLOSED_SECONDS)
                end = await self._handles.init.receive()
        except TimeoutError:
            self._kill()
            return "The code closed the sandbox's own control channel, and the session was ended."
        except (EOFError, OSError, frames.FrameError):
            end = None
        return ending.sentence(end, self._limits)

    def _interrupt(self) -> None:
        _signal(self._handles.code_process, signal.SIGINT)

    def _kill(self) -> None:
        # Init is pid 1 of the session: the kernel ends all of its processes before init is gone.
        _signal(self._handles.init_process, signal.SIGKILL)

    async def _gone(self) -> None:
        """Wait until no process of the session is left."""
        try:
            await _ended(self._handles.init_process, _END_SECONDS)
        except TimeoutError as error:
            raise SandboxDiedError(
                f"The session's processes did not end within {_END_SECONDS:g} seconds of being killed; "
                "the machine is overloaded or a disk hangs."
            ) from error


async def _ended(process: int, seconds: float) -> None:
    """Wait until a process has ended.

    Raises:
        TimeoutError: it has not.
    """
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    loop.add_reader(process, lambda: gone.done() or gone.set_result(None))
    try:
        async with asyncio.timeout(seconds):
            await gone
    finally:
        loop.remove_reader(process)


def _signal(process: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:  # it ended by itself
        return


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
