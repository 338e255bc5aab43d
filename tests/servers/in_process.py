"""A sandbox that isolates nothing, for code that the tests themselves bring: fast, and in this process."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.ports import NO_ACCESS, Access
from tests.plain_session import PlainSession

_DEFAULT_LIMITS = SandboxLimits()


class InProcessSandbox:
    """Runs code in folders of the test."""

    tier = "none (test)"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def importable(self) -> frozenset[str]:
        """What this process can import."""
        return frozenset(sys.stdlib_module_names) | frozenset(importlib.metadata.packages_distributions())

    async def open(
        self,
        *,
        inputs: Sequence[InputFile] = (),
        limits: SandboxLimits = _DEFAULT_LIMITS,
        seed: int | None = None,
        access: Access = NO_ACCESS,
        folder: Path | None = None,
    ) -> PlainSession:
        """Make a session."""
        place = folder or self._folder
        (place / "inputs").mkdir(parents=True, exist_ok=folder is not None)
        for file in inputs:
            (place / "inputs" / file.name).write_bytes(file.path.read_bytes())
        matplotlib.use("Agg")
        return PlainSession(place, seed=seed, access=access, read_only=folder is not None)
