"""A plan: a graph of steps, each with what would prove it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from pythonic_assistant.domain.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node of a plan.

    Attributes:
        id: unique in its plan, short, such as "s1".
        title: a few words for the page.
        goal: what the code of this step has to reach.
        proof: what would show that it was reached.
        depends_on: ids of steps whose results this one uses.
    """

    id: str
    title: str
    goal: str
    proof: str
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in an order that respects their dependencies; made by `plan_of`."""

    steps: tuple[Step, ...]


def plan_of(steps: Sequence[Step], *, most: int = 12) -> Plan:
    """Order steps so that each comes after those that it depends on.

    Steps that do not depend on each other keep the order in which they were given.

    Raises:
        InvalidInputError: no step, too many, a repeated id, an unknown dependency, or a cycle.
    """
    if not steps:
        raise InvalidInputError("The plan has no step.")
    if len(steps) > most:
        raise InvalidInputError(f"The plan has {len(steps)} steps; at most {most} are allowed.")
    by_id = {step.id: step for step in steps}
    if len(by_id) != len(steps):
        raise InvalidInputError("Two steps of the plan have the same id.")
    for step in steps:
        unknown = [name for name in step.depends_on if name not in by_id]
        if unknown:
            raise InvalidInputError(
                f"Step {step.id} depends on {', '.join(unknown)}, which the plan does not have."
            )
    position = {step.id: index for index, step in enumerate(steps)}
    sorter = TopologicalSorter({step.id: step.depends_on for step in steps})
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " → ".join(str(name) for name in error.args[1])
        raise InvalidInputError(f"The steps of the plan depend on each other: {cycle}.") from error
    ordered: list[Step] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=position.__getitem__)
        ordered.extend(by_id[name] for name in ready)
        sorter.done(*ready)
    return Plan(steps=tuple(ordered))
