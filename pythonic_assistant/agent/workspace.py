"""The sandbox session of a run, which can be rebuilt: finished code runs again, no model is asked again.

Code in the sandbox has no way to the outside, so running the recorded code of finished steps once more
gives the same variables and files without repeating any effect. ADR 0003 says why this was preferred to
saving variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile, InputFile
from pythonic_assistant.ports import OnOutput, Sandbox, SandboxLimits, SandboxSession


class Workspace:
    """One run's session; `async with` closes it."""

    def __init__(
        self, sandbox: Sandbox, *, inputs: Sequence[InputFile], limits: SandboxLimits | None = None
    ) -> None:
        self._sandbox = sandbox
        self._inputs = tuple(inputs)
        self._limits = limits or SandboxLimits()
        self._session: SandboxSession | None = None
        self._finished: list[str] = []

    async def __aenter__(self) -> Workspace:
        self._session = await self._sandbox.open(inputs=self._inputs, limits=self._limits)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def tier(self) -> str:
        """What isolates the code."""
        return self._sandbox.tier

    async def execute(self, code: str, *, timeout: float, on_output: OnOutput | None = None) -> Execution:
        """Run code; when the session dies under it, make a new one in the state after the last finished code.

        The execution that died is returned as such, so that the model learns what it did.
        """
        try:
            execution = await self._live().execute(code, timeout=timeout, on_output=on_output)
        except SandboxDiedError as error:
            execution = Execution(outcome="died", error=str(error))
        if execution.outcome == "died":
            await self._rebuild(timeout)
        return execution

    def keep(self, code: str) -> None:
        """Remember code that has succeeded, to be run again when the session has to be rebuilt."""
        self._finished.append(code)

    async def variables(self) -> tuple[VariableInfo, ...]:
        """Describe the variables that are alive."""
        return await self._live().variables()

    async def collect(self, into: Path) -> tuple[tuple[ArtifactFile, ...], tuple[str, ...]]:
        """Copy the files of the session to the host; the second part names what was left out and why."""
        session = self._live()
        return await session.collect(into), session.skipped

    async def _rebuild(self, timeout: float) -> None:
        await self._live().close()
        self._session = await self._sandbox.open(inputs=self._inputs, limits=self._limits)
        for code in self._finished:
            again = await self._session.execute(code, timeout=timeout)
            if again.outcome == "died":
                raise SandboxDiedError(
                    f"Code that had succeeded ended the sandbox when its state was rebuilt: {again.error}"
                )

    def _live(self) -> SandboxSession:
        if self._session is None:
            raise SandboxDiedError("The sandbox session has not been opened, or is closed.")
        return self._session
