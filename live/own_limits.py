"""Limits that a person sets for one task, in the units in which people think of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.limits import LEAST, SandboxLimits, read_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitField:
    """A limit as it is asked for.

    Attributes:
        name: as in `pythonic_assistant.domain.limits.LEAST`.
        unit: what the person writes; `factor` of the limit's own unit.
        usual: what holds where no worker and no assistant says otherwise, in `unit`.
    """

    name: str
    label: str
    unit: str
    factor: int
    usual: int

    def usual_for(self, limits: Mapping[str, Any]) -> int:
        """What holds for an assistant with these limits, in `unit`."""
        given: Any = limits.get(self.name)
        return given // self.factor if isinstance(given, int) else self.usual


_SANDBOX, _BUDGET = SandboxLimits(), Budget()
FIELDS: Final = (
    LimitField(
        name="memory_bytes",
        label="Memory",
        unit="MiB",
        factor=1 << 20,
        usual=_SANDBOX.memory_bytes >> 20,
    ),
    LimitField(
        name="execution_seconds",
        label="Time per step",
        unit="seconds",
        factor=1,
        usual=round(_BUDGET.execution_seconds),
    ),
    LimitField(name="seconds", label="Time in all", unit="seconds", factor=1, usual=round(_BUDGET.seconds)),
)


def read_own_limits(written: Mapping[str, int | None]) -> dict[str, int]:
    """Return the limits of a task in their own units.

    Args:
        written: whole numbers in the units of `FIELDS` by their names; None where nothing was written.

    Raises:
        InvalidInputError: one is too small or too large.
    """
    limits: dict[str, int] = {}
    for field in FIELDS:
        value = written.get(field.name)
        if value is None:
            continue
        least = -(-LEAST[field.name] // field.factor)
        if value < least:
            raise InvalidInputError(
                f"{field.label} is {value:,} {field.unit}: write at least {least:,}, or leave it empty."
            )
        limits[field.name] = value * field.factor
    read_limits(limits)
    return limits
