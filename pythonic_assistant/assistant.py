"""`PythonicAssistant`: the assistant as a library, without a database, a queue or a page."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path

from pythonic_assistant.agent import loop
from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.event import Event
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.domain.task import RunRequest
from pythonic_assistant.ports import Egress, Model, Sandbox, Toolbox


class PythonicAssistant:
    """Plans, writes Python, runs it isolated, and proves its answer.

    Example:
        async with zygote_sandbox() as sandbox:
            assistant = PythonicAssistant(model=model, sandbox=sandbox)
            async for event in assistant.run("Plot sales by month", files=["sales.csv"]):
                print(event.kind)

    Args:
        model: who writes the plan and the code.
        sandbox: where the code runs.
        instructions: what the model is told before every task.
        outbox: folder of the host that receives the artifacts of every run; made if it is missing.
        limits: of each session.
        egress: the way out of the sandbox; None while code may reach nothing.
        toolbox: what code may call; see `pythonic_assistant.tools.registry.toolbox_of`.
    """

    def __init__(
        self,
        *,
        model: Model,
        sandbox: Sandbox,
        instructions: str = "",
        budget: Budget | None = None,
        outbox: Path | str = "artifacts",
        limits: SandboxLimits | None = None,
        egress: Egress | None = None,
        toolbox: Toolbox | None = None,
    ) -> None:
        self._model = model
        self._sandbox = sandbox
        self._instructions = instructions
        self._budget = budget or Budget()
        self._outbox = Path(outbox)
        self._limits = limits or SandboxLimits()
        self._egress = egress
        self._toolbox = toolbox

    def run(self, prompt: str, *, files: Sequence[Path | str] = ()) -> AsyncGenerator[Event, None]:
        """Work on a task and yield its events; the last is `RunSucceeded` or `RunFailed`.

        Leaving the iteration early ends the run.

        Raises:
            InvalidInputError: at once, when a file cannot be read.
        """
        request = RunRequest(
            prompt=prompt,
            instructions=self._instructions,
            files=tuple(_input_file(Path(file)) for file in files),
            budget=self._budget,
            limits=self._limits,
            hosts=tuple(self._egress.hosts) if self._egress is not None else (),
            tools=tuple(self._toolbox.specs) if self._toolbox is not None else (),
        )
        return self.run_request(request)

    async def run_request(self, request: RunRequest) -> AsyncGenerator[Event, None]:
        """As `run`, for a whole request."""
        await asyncio.to_thread(self._outbox.mkdir, parents=True, exist_ok=True)
        events: asyncio.Queue[Event | None] = asyncio.Queue()

        async def work() -> None:
            try:
                await loop.run(
                    request,
                    model=self._model,
                    sandbox=self._sandbox,
                    outbox=self._outbox,
                    emit=events.put_nowait,
                    egress=self._egress,
                    toolbox=self._toolbox,
                )
            finally:
                events.put_nowait(None)

        task = asyncio.create_task(work(), name="run")
        try:
            while (event := await events.get()) is not None:
                yield event
            await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _input_file(path: Path) -> InputFile:
    if not path.is_file():
        raise InvalidInputError(f"There is no file {path}. Give the path of a file that exists.")
    return InputFile(
        name=path.name,
        path=path.resolve(),
        media_type=mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        bytes=path.stat().st_size,
    )
