"""Limits that a person sets for one task, in the units in which people think of them."""

from __future__ import annotations

import math
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
        unit: what the person writes; `factor` of the limit's own unit, or so many `parts` are one of it.
        usual: what holds where no worker and no assistant says otherwise, in `unit`.
    """

    name: str
    label: str
    unit: str
    factor: int
    usual: int
    parts: int = 1

    def usual_for(self, limits: Mapping[str, Any]) -> int:
        """What holds for an assistant with these limits, in `unit`."""
        given: Any = limits.get(self.name)
        if not isinstance(given, int | float):
            return self.usual
        return round(given * self.parts) if self.parts > 1 else int(given) // self.factor


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
    LimitField(name="tokens", label="Tokens", unit="thousands", factor=1000, usual=_BUDGET.tokens // 1000),
    LimitField(
        name="cost", label="Money", unit="US cents", factor=1, usual=round(_BUDGET.cost * 100), parts=100
    ),
)


def read_own_limits(written: Mapping[str, int | None]) -> dict[str, float]:
    """Return the limits of a task in their own units.

    Args:
        written: whole numbers in the units of `FIELDS` by their names; None where nothing was written.

    Raises:
        InvalidInputError: one is too small or too large.
    """
    limits: dict[str, float] = {}
    for field in FIELDS:
        value = written.get(field.name)
        if value is None:
            continue
        least = math.ceil(LEAST[field.name] * field.parts / field.factor)
        if value < least:
            raise InvalidInputError(
                f"{field.label} is {value:,} {field.unit}: write at least {least:,}, or leave it empty."
            )
        limits[field.name] = value / field.parts if field.parts > 1 else value * field.factor
    read_limits(limits)
    return limits
