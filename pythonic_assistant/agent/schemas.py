"""The JSON forms that the loop asks a model for, and their reading into the domain.

The schemas keep to the subset that strict structured output takes: every key required, none added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.plan import Plan, Step, plan_of


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT = {"type": "string"}

PLAN_SCHEMA: Mapping[str, Any] = _object(
    {
        "steps": {
            "type": "array",
            "items": _object(
                {
                    "id": _TEXT,
                    "title": _TEXT,
                    "goal": _TEXT,
                    "proof": _TEXT,
                    "depends_on": {"type": "array", "items": _TEXT},
                }
            ),
        }
    }
)

VERIFICATION_SCHEMA: Mapping[str, Any] = _object(
    {
        "answer": _TEXT,
        "checks": {"type": "array", "items": _object({"claim": _TEXT, "code": _TEXT})},
    }
)

MOST_CHECKS = 12
"""More checks than this are not executed: they cost time and prove no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A claim of the answer with the Python that would show that it is false."""

    claim: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """An answer with the checks that shall prove it."""

    answer: str
    checks: tuple[Check, ...]


def read_plan(data: Mapping[str, Any]) -> Plan:
    """Read a plan.

    Raises:
        InvalidInputError: the data has not the form of `PLAN_SCHEMA`, or the plan is impossible.
    """
    steps = [
        Step(
            id=_text(row, "id", f"step {place}")[:100],
            title=_text(row, "title", f"step {place}")[:200],
            goal=_text(row, "goal", f"step {place}"),
            proof=str(row.get("proof", "")),
            depends_on=tuple(str(name) for name in _rows(row, "depends_on", f"step {place}")),
        )
        for place, row in enumerate(_objects(data, "steps", "the plan"), start=1)
    ]
    return plan_of(steps)


def read_verification(data: Mapping[str, Any]) -> Verification:
    """Read an answer with its checks.

    Raises:
        InvalidInputError: the data has not the form of `VERIFICATION_SCHEMA`.
    """
    checks = tuple(
        Check(claim=_text(row, "claim", f"check {place}"), code=_text(row, "code", f"check {place}"))
        for place, row in enumerate(_objects(data, "checks", "the verification"), start=1)
    )
    return Verification(answer=_text(data, "answer", "the verification"), checks=checks[:MOST_CHECKS])


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(f'In {where}, "{key}" has to be a text that is not empty.')
    return value.strip()


def _rows(row: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value: Any = row.get(key)
    if not isinstance(value, list):
        raise InvalidInputError(f'In {where}, "{key}" has to be a list.')
    return list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _objects(row: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    found = _rows(row, key, where)
    if not all(isinstance(item, dict) for item in found):
        raise InvalidInputError(f'In {where}, each of "{key}" has to be an object.')
    return found
