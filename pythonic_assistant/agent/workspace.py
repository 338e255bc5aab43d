"""The sandbox session of a run, which can be rebuilt: finished code runs again, no model is asked again.

Code in the sandbox has no way to the outside, so running the recorded code of finished steps once more
gives the same variables and files without repeating any effect. ADR 0003 says why this was preferred to
saving variables.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile, InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.ports import OnOutput, Sandbox, SandboxSession


class Workspace:
    """One run's session; `async with` closes it."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        inputs: Sequence[InputFile],
        limits: SandboxLimits | None = None,
        seed: int | None = None,
        rebuild_seconds: float = 120.0,
    ) -> None:
        """Prepare; `async with` opens the session.

        Args:
            seed: of chance in the session, so that a rebuilt one draws the same numbers; None draws one.
            rebuild_seconds: for each piece of code that is run again.
        """
        self._sandbox = sandbox
        self._inputs = tuple(inputs)
        self._limits = limits or SandboxLimits()
        self._seed = secrets.randbits(63) if seed is None else seed
        self._rebuild_seconds = rebuild_seconds
        self._session: SandboxSession | None = None
        self._finished: list[str] = []

    async def __aenter__(self) -> Workspace:
        self._session = await self._open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def execute(self, code: str, *, timeout: float, on_output: OnOutput | None = None) -> Execution:
        """Run code; when the session dies under it, make a new one in the state after the last finished code.

        The execution that died is returned as such, so that the model learns what it did.
        """
        try:
            execution = await self._live().execute(code, timeout=timeout, on_output=on_output)
        except SandboxDiedError as error:
            execution = Execution(outcome="died", error=str(error))
        if execution.outcome == "died":
            await self.rebuild()
        return execution

    def keep(self, code: str) -> None:
        """Remember code that has succeeded, to be run again when the session has to be rebuilt."""
        self._finished.append(code)

    async def variables(self) -> tuple[VariableInfo, ...]:
        """Describe the variables that are alive."""
        try:
            return await self._live().variables()
        except SandboxDiedError:
            await self.rebuild()
            return await self._live().variables()

    async def collect(self, into: Path) -> tuple[tuple[ArtifactFile, ...], tuple[str, ...]]:
        """Copy the files of the session to the host; the second part names what was left out and why."""
        try:
            artifacts = await self._live().collect(into)
        except SandboxDiedError:
            await self.rebuild()
            artifacts = await self._live().collect(into)
        return artifacts, self._live().skipped

    async def _open(self) -> SandboxSession:
        return await self._sandbox.open(inputs=self._inputs, limits=self._limits, seed=self._seed)

    async def rebuild(self) -> None:
        """Make a new session in the state after the last finished code.

        Raises:
            SandboxDiedError: code that had succeeded does not any more, so there is no state to go on from.
        """
        await self._live().close()
        self._session = await self._open()
        for code in self._finished:
            again = await self._session.execute(code, timeout=self._rebuild_seconds)
            if again.outcome != "ok":
                raise SandboxDiedError(
                    "The sandbox ended, and its state could not be rebuilt, because code that had succeeded "
                    f"did not run again ({again.outcome}): {again.error}"
                )

    def _live(self) -> SandboxSession:
        if self._session is None:
            raise SandboxDiedError("The sandbox session has not been opened, or is closed.")
        return self._session
