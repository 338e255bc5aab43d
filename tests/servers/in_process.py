"""A sandbox that isolates nothing, for code that the tests themselves bring: fast, and in this process."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile, InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.ports import OnOutput


class InProcessSandbox:
    """Runs code in a folder of the test."""

    tier = "none (test)"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(
        self,
        *,
        inputs: Sequence[InputFile] = (),
        limits: SandboxLimits | None = None,
        seed: int | None = None,
    ) -> InProcessSession:
        """Make a session."""
        inside = self._folder / "inputs"
        inside.mkdir(parents=True)
        for file in inputs:
            shutil.copy(file.path, inside / file.name)
        matplotlib.use("Agg")
        return InProcessSession(self._folder)


class InProcessSession:
    """A namespace and a folder."""

    skipped: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, Any] = {"__name__": "__main__"}

    async def execute(self, code: str, *, timeout: float, on_output: OnOutput | None = None) -> Execution:
        """Run code; its exception becomes the outcome."""
        written = io.StringIO()
        before = Path.cwd()
        os.chdir(self._folder)
        try:
            with contextlib.redirect_stdout(written):
                exec(compile(code, "<code>", "exec"), self._names)
        except Exception:  # noqa: BLE001  whatever the code raises is its outcome
            return Execution(outcome="error", stdout=written.getvalue(), error=traceback.format_exc())
        finally:
            os.chdir(before)
        if on_output is not None and written.getvalue():
            on_output("stdout", written.getvalue())
        return Execution(outcome="ok", stdout=written.getvalue())

    async def variables(self) -> tuple[VariableInfo, ...]:
        """Names and types only."""
        return tuple(
            VariableInfo(name=name, type=type(value).__name__, summary="…")
            for name, value in self._names.items()
            if not name.startswith("_")
        )

    async def collect(self, into: Path) -> tuple[ArtifactFile, ...]:
        """Copy what lies beside the inputs."""
        found: list[ArtifactFile] = []
        for path in sorted(self._folder.iterdir()):
            if path.is_file():
                copy = Path(shutil.copy(path, into / path.name))
                content = copy.read_bytes()
                found.append(
                    ArtifactFile(
                        name=path.name,
                        path=copy,
                        media_type="application/octet-stream",
                        bytes=len(content),
                        sha256=hashlib.sha256(content).hexdigest(),
                    )
                )
        return tuple(found)

    async def close(self) -> None:
        """Drop the variables."""
        self._names.clear()
