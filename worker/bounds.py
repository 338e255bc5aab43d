"""Which limits hold for a task: its own, as far as the operator allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.limits import SandboxLimits, read_limits, within
from worker.config import WorkerConfig


def bounds_of(
    given: Mapping[str, Any], config: WorkerConfig
) -> tuple[SandboxLimits, Budget, tuple[str, ...]]:
    """Return limits and budget of a task, and a sentence for each limit that the worker does not grant.

    Raises:
        InvalidInputError: a limit that does not exist, or an impossible value.
    """
    wanted, spending = read_limits(given, sandbox=config.limits, budget=config.budget)
    limits = within(wanted, config.limits)
    budget = replace(
        spending,
        **{
            field.name: min(getattr(spending, field.name), getattr(config.most_budget, field.name))
            for field in fields(Budget)
        },
    )
    granted = {field.name: getattr(limits, field.name) for field in fields(SandboxLimits)}
    granted |= {field.name: getattr(budget, field.name) for field in fields(Budget)}
    return (
        limits,
        budget,
        tuple(
            f"The limit {name} is {_shown(name, granted[name])}, not {_shown(name, value)}: more this worker "
            "does not allow."
            for name, value in given.items()
            if granted[name] < value
        ),
    )


def _shown(name: str, value: float) -> str:
    return f"${value:,.2f}" if name == "cost" else f"{value:,.0f}"
