"""What one sandbox session may use, and how a person writes it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """Limits of one session.

    Attributes:
        memory_bytes: of all processes of the session together, scratch files included.
        processes: alive at the same time.
        cpu_seconds: of each process, over the whole session.
        disk_bytes: of the scratch folder.
        inodes: files and folders in the scratch folder.
        output_bytes: of stdout and stderr of one execution; what comes later is dropped.
        open_files: per process.
    """

    memory_bytes: int = 1 << 30
    processes: int = 64
    cpu_seconds: int = 600
    disk_bytes: int = 512 << 20
    inodes: int = 20_000
    output_bytes: int = 1 << 20
    open_files: int = 256


LEAST: Final[Mapping[str, float]] = {
    "memory_bytes": 32 << 20,  # what Python with pandas touches by itself, and a little
    "processes": 1,
    "cpu_seconds": 1,
    "disk_bytes": 1 << 20,
    "inodes": 16,
    "output_bytes": 1,
    "open_files": 32,
    "seconds": 1,
    "execution_seconds": 1,
    "turns": 1,
    "tokens": 1_000,
    "cost": 0.01,
}
"""The smallest value of each limit that a person may write."""
MOST: Final = 1 << 50
"""The largest value of any limit: what a 64-bit kernel takes in every place."""
MOST_COST: Final = 1_000_000
"""US dollars: more than anybody means."""


def read_limits(
    given: Mapping[str, Any], *, sandbox: SandboxLimits | None = None, budget: Budget | None = None
) -> tuple[SandboxLimits, Budget]:
    """Return limits with those replaced that a row or a setting names.

    Args:
        given: by the names of `LEAST`, whole numbers, of `cost` any; the first seven are the session's, the
            others the run's.
        sandbox, budget: what holds where nothing is given.

    Raises:
        InvalidInputError: an unknown name, or a value that is no such number or out of range.
    """
    sandbox, budget = sandbox or SandboxLimits(), budget or Budget()
    for name, value in given.items():
        if name not in LEAST:
            raise InvalidInputError(f"There is no limit {name!r}; the limits are {', '.join(LEAST)}.")
        if name == "cost":
            _check_cost(value)
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not LEAST[name] <= value <= MOST:
            raise InvalidInputError(
                f"The limit {name} is {value!r}: write a whole number of at least {LEAST[name]:,}."
            )
    session = {field.name for field in fields(SandboxLimits)}
    return (
        replace(sandbox, **{name: value for name, value in given.items() if name in session}),
        replace(budget, **{name: value for name, value in given.items() if name not in session}),
    )


def _check_cost(value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not LEAST["cost"] <= value <= MOST_COST:
        raise InvalidInputError(f"The limit cost is {value!r}: write US dollars, at least 0.01.")


def within(limits: SandboxLimits, caps: SandboxLimits) -> SandboxLimits:
    """Return the smaller of both for each limit: the caps are the operator's."""
    return SandboxLimits(
        **{
            field.name: min(getattr(limits, field.name), getattr(caps, field.name))
            for field in fields(SandboxLimits)
        }
    )
