"""The sandbox session of a run: always in the state after the last code that succeeded.

Code that fails is rolled back in place. Where the session itself is lost, a new one runs the finished code
again and no model is asked. ADR 0003 says why this was preferred to saving variables.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pythonic_assistant.agent.redacting import CleanSession
from pythonic_assistant.agent.static_check import Reading, read_code
from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile, InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.variable import SavedVariable, UnsavedVariable
from pythonic_assistant.ports import NO_ACCESS, Access, OnOutput, Sandbox, SandboxSession


class Workspace:
    """One run's session; `async with` closes it."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        inputs: Sequence[InputFile],
        limits: SandboxLimits | None = None,
        seed: int | None = None,
        access: Access = NO_ACCESS,
        redactor: Redactor | None = None,
        rebuild_seconds: float = 120.0,
    ) -> None:
        """Prepare; `async with` opens the session.

        Args:
            seed: of chance in the session, so that a rebuilt one draws the same numbers; None draws one.
            access: what the session may reach.
            redactor: of what must not leave it.
            rebuild_seconds: for each piece of code that is run again.
        """
        self._sandbox = sandbox
        self._inputs = tuple(inputs)
        self._limits = limits or SandboxLimits()
        self._seed = secrets.randbits(63) if seed is None else seed
        self._access = access
        self._redactor = redactor or Redactor({})
        self._rebuild_seconds = rebuild_seconds
        self._session: SandboxSession | None = None
        self._finished: list[tuple[str, Place]] = []
        self._entered = 0
        self._tried: list[str] = []
        self._importable: frozenset[str] | None = None
        self._told_missing: set[str] = set()

    async def __aenter__(self) -> Workspace:
        self._session = await self._open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def finished(self) -> Sequence[str]:
        """The code that made the present state."""
        return tuple(code for code, _ in self._finished)

    async def importable(self) -> frozenset[str]:
        """Names of the modules that code can import."""
        if self._importable is None:
            self._importable = await self._sandbox.importable()
        return self._importable

    async def read(self, code: str) -> Reading:
        """Read code for what cannot work.

        A module that was missed before is let through: where the model insists, the code may have made it
        in a way that cannot be read, and running it tells.
        """
        names = set(await self.importable()) | self._told_missing
        if self._access.toolbox is not None:
            names.add("tools")
        online = self._access.egress is not None and bool(self._access.egress.hosts)
        reading = read_code(code, importable=names, earlier=self._tried, online=online)
        self._told_missing.update(item.module for item in reading.missing)
        return reading

    async def recall(self, code: str) -> None:
        """Take note of code that failed in an earlier attempt, and was undone."""
        await self.read(code)
        self._tried.append(code)

    async def execute(
        self, code: str, *, timeout: float, place: Place | None = None, on_output: OnOutput | None = None
    ) -> Execution:
        """Run code; when it does not succeed, go back to the variables before it.

        An execution under which the session was lost is returned as such, so that the model learns what it
        did; the new session is in the state after the last finished code.

        Args:
            place: which execution this is, for what it does outside.

        Raises:
            SandboxDiedError: the session was lost, and its state cannot be rebuilt.
        """
        self._tried.append(code)
        await self._enter(place or Place())
        try:
            execution = await self._live().execute(
                code, timeout=timeout, on_output=on_output, checkpoint=True
            )
        except SandboxDiedError as error:
            execution = Execution(outcome="died", error=str(error))
        if execution.outcome == "ok" or execution.rolled_back:
            return execution
        if execution.outcome != "died" and await self._rolled_back():
            return replace(execution, rolled_back=True)
        await self.rebuild()
        return replace(
            execution,
            # The last line stays the last: it is what a person is shown.
            error=f"A new session was made: files that this code wrote are gone.\n{execution.error}",
            rolled_back=True,
        )

    async def restore(self, code: str, *, timeout: float, place: Place | None = None) -> Execution:
        """Run code of an earlier attempt again, and keep it when it succeeds; see `execute`.

        It does nothing new outside: what it did then is given to it again.
        """
        place = replace(place or Place(), rerun=True)
        execution = await self.execute(code, timeout=timeout, place=place)
        if execution.outcome == "ok":
            self.keep(code, place)
        return execution

    def keep(self, code: str, place: Place | None = None) -> None:
        """Remember code that has succeeded, to be run again when the session has to be rebuilt."""
        self._finished.append((code, replace(place or Place(), rerun=True)))

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

    async def save(self, into: Path) -> tuple[tuple[SavedVariable, ...], tuple[UnsavedVariable, ...]]:
        """Write the variables into a folder of the host as plain data; the second part could not be."""
        await asyncio.to_thread(into.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            return await self._live().save(into)
        except SandboxDiedError:
            await self.rebuild()
            return await self._live().save(into)

    async def open_beside(self, folder: Path) -> SandboxSession:
        """Open another session that sees a folder of the host read-only, and reaches nothing else.

        It shares nothing with the work but what is in the folder, and the person's files.
        """
        return self._clean(
            await self._sandbox.open(inputs=self._inputs, limits=self._limits, seed=self._seed, folder=folder)
        )

    async def rebuild(self) -> None:
        """Make a new session in the state after the last finished code.

        Raises:
            SandboxDiedError: code that had succeeded does not any more, so there is no state to go on from.
        """
        await self._live().close()
        self._session = await self._open()
        for code, place in self._finished:
            await self._enter(place)
            again = await self._session.execute(code, timeout=self._rebuild_seconds)
            if again.outcome != "ok":
                raise SandboxDiedError(
                    "The sandbox ended, and its state could not be rebuilt, because code that had succeeded "
                    f"did not run again ({again.outcome}): {again.error}"
                )

    async def _enter(self, place: Place) -> None:
        """Say whose code acts outside from now on."""
        self._entered += 1
        place = replace(place, serial=self._entered)
        if self._access.entering is not None:
            await self._access.entering(place)
        if self._access.egress is not None:
            await self._access.egress.at(place)

    async def _open(self) -> SandboxSession:
        return self._clean(
            await self._sandbox.open(
                inputs=self._inputs, limits=self._limits, seed=self._seed, access=self._access
            )
        )

    def _clean(self, session: SandboxSession) -> SandboxSession:
        return CleanSession(session, self._redactor) if self._redactor else session

    async def _rolled_back(self) -> bool:
        try:
            return await self._live().rollback()
        except SandboxDiedError:
            return False

    def _live(self) -> SandboxSession:
        if self._session is None:
            raise SandboxDiedError("The sandbox session has not been opened, or is closed.")
        return self._session
