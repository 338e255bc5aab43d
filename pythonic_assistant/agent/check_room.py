"""Where checks run: a session of their own, which code of the work has never been in.

It sees the files that the work left and the values of its variables, both as plain data and read-only. So a
check cannot make its own evidence, and the work cannot change the Python that judges it.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from pythonic_assistant.agent.workspace import Workspace
from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.execution import Execution
from pythonic_assistant.ports import SandboxSession

VARIABLES = ".variables"
"""The folder that `SandboxSession.restore` reads."""

# No name is bound: it could be one of the work's variables. PYTHONSAFEPATH does the same for interpreters
# that a check starts (docs.python.org/3/using/cmdline.html).
_NO_MODULES_OF_THE_WORK = (
    "__import__('os').environ['PYTHONSAFEPATH'] = '1'\n"
    "__import__('sys').path[:] = [place for place in __import__('sys').path "
    "if __import__('os').path.realpath(place or '.') != __import__('os').getcwd()]\n"
)
"""A file that the work left must not be imported in place of a library."""
_PREPARE_SECONDS = 30.0


class CheckRoom:
    """The session of one round of checks; it is opened with the first."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        """Prepare; `folder` holds the work's files, `inputs/` and its variables in `VARIABLES`."""
        self._workspace = workspace
        self._folder = folder
        self._session: SandboxSession | None = None

    async def __aenter__(self) -> CheckRoom:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def execute(self, code: str, *, timeout: float) -> Execution:
        """Run a check; when the session dies of it, the next check gets a new one."""
        try:
            if self._session is None:
                self._session = await self._enter()
            execution = await self._session.execute(code, timeout=timeout)
        except SandboxDiedError as error:
            execution = Execution(outcome="died", error=f"The session of the checks ended: {error}")
        if execution.outcome == "died":
            await self._leave()
        return execution

    async def _enter(self) -> SandboxSession:
        session = await self._workspace.open_beside(self._folder)
        try:
            await session.restore()
            ready = await session.execute(_NO_MODULES_OF_THE_WORK, timeout=_PREPARE_SECONDS)
        except BaseException:
            await session.close()
            raise
        if ready.outcome != "ok":
            await session.close()
            raise SandboxDiedError(f"it could not be prepared: {ready.error}")
        return session

    async def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
