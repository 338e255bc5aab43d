"""Limits in words: for the model before it writes code, for the person when one is hit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.event import Event, Noted
from pythonic_assistant.domain.execution import Execution
from pythonic_assistant.domain.limits import LEAST, SandboxLimits

_NAMED: Final = re.compile(rf"^\S.*\blimit\b.*\(({'|'.join(map(re.escape, LEAST))})[,)]")
"""How the sandbox names a limit in its sentences: `… the limit of a session (memory_bytes)`. Lines of code in
a traceback are indented."""


def limits_of(limits: SandboxLimits, budget: Budget) -> dict[str, float]:
    """Return the limits of session and run by the names of `limits.LEAST`."""
    every = asdict(limits) | asdict(budget)
    return {name: every[name] for name in LEAST}


def in_words(limits: SandboxLimits, budget: Budget) -> str:
    """Say what one piece of code and the session may use."""
    return (
        f"One piece of code may take {budget.execution_seconds:g} seconds and write "
        f"{limits.output_bytes // 1024:,} KiB of output. All code together may use "
        f"{limits.memory_bytes >> 20:,} MiB of memory, {limits.processes} processes and "
        f"{limits.disk_bytes >> 20:,} MiB of files; each process {limits.cpu_seconds:,} seconds of CPU time "
        f"and {limits.open_files} open files."
    )


class LimitsTold:
    """Tells the person about a limit that code hit, once for each kind in a run."""

    def __init__(self, emit: Callable[[Event], None], limits: SandboxLimits) -> None:
        self._emit = emit
        self._limits = limits
        self._told: set[str] = set()

    def look_at(self, execution: Execution) -> None:
        """Take note of an execution."""
        if execution.outcome == "timeout":
            self._tell("execution_seconds", execution.error.strip().partition("\n")[0])
        if execution.truncated:
            self._tell(
                "output_bytes",
                f"Code wrote more than {self._limits.output_bytes:,} bytes of output, the limit of one "
                "execution (output_bytes); the rest was dropped.",
            )
        if execution.outcome in ("died", "error"):
            for line in execution.error.splitlines():
                named = _NAMED.match(line)
                if named is not None:
                    self._tell(named.group(1), line.strip())

    def _tell(self, kind: str, sentence: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            self._emit(Noted(text=sentence[:500], level="warning"))
