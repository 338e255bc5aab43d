"""Reads `PYTHONIC_LIMITS`: what any session of the sandbox and any task may use, by default and at most."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Final

from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.errors import ConfigurationError
from pythonic_assistant.domain.limits import LEAST, MOST, MOST_COST, SandboxLimits

_FIELDS: Final[Mapping[str, str]] = {
    "memory": "memory_bytes",
    "disk": "disk_bytes",
    "processes": "processes",
    "cpu": "cpu_seconds",
    "output": "output_bytes",
    "inodes": "inodes",
    "open_files": "open_files",
    "tokens": "tokens",
    "cost": "cost",
}
_SPENDING: Final = ("tokens", "cost")
_UNITS: Final[Mapping[str, int]] = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE: Final = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)")
_COUNT: Final = re.compile(r"[0-9]{1,16}")
_MONEY: Final = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,6})?")
EXAMPLE: Final = "memory=2GiB, disk=1GiB, processes=128, cpu=600"


def sandbox_limits(given: Mapping[str, str]) -> SandboxLimits:
    """Read limits such as `memory=2GiB, cpu=600`; what is not named keeps its default.

    Raises:
        ConfigurationError: a name is unknown or twice, or a value is none; the sentence says what to write.
    """
    named = _named(given)
    return replace(
        SandboxLimits(), **{name: int(value) for name, value in named.items() if name not in _SPENDING}
    )


def spending_limits(given: Mapping[str, str]) -> dict[str, float]:
    """Read what one task may spend, such as `tokens=200000, cost=2.50`, by the names of `Budget`.

    Raises:
        ConfigurationError: as `sandbox_limits`.
    """
    return {name: value for name, value in _named(given).items() if name in _SPENDING}


def _named(given: Mapping[str, str]) -> dict[str, float]:
    named: dict[str, float] = {}
    for part in given.get("PYTHONIC_LIMITS", "").split(","):
        if not part.strip():
            continue
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            raise _refused(part.strip(), f"write name=value with commas between, such as {EXAMPLE}")
        if name not in _FIELDS:
            raise _refused(part.strip(), f"there is no limit {name!r}; there are {', '.join(_FIELDS)}")
        if _FIELDS[name] in named:
            raise _refused(part.strip(), f"{name} is named twice; name it once")
        named[_FIELDS[name]] = _value(name, value)
    return named


def written(limits: SandboxLimits, spending: Mapping[str, float]) -> str:
    """Return limits as `sandbox_limits` and `spending_limits` read them."""
    every = asdict(limits) | dict(spending)
    return ", ".join(f"{name}={every[field]}" for name, field in _FIELDS.items() if field in every)


def _value(name: str, text: str) -> float:
    field = _FIELDS[name]
    if field == "cost":
        return _money(text)
    least = int(LEAST[field])
    if field.endswith("_bytes"):
        found = _SIZE.fullmatch(text)
        unit = found[2] if found else ""
        if found is None or unit not in _UNITS:
            raise _refused(f"{name}={text}", f"write a size in KiB, MiB or GiB, such as {name}=512MiB")
        value = int(Decimal(found[1]) * _UNITS[unit])
        shortest = _shown(least)
    else:
        if not _COUNT.fullmatch(text):
            what = "whole seconds" if name == "cpu" else "a whole number"
            raise _refused(f"{name}={text}", f"write {what}, such as {name}={_default(field)}")
        value = int(text)
        shortest = str(least)
    if not least <= value <= MOST:
        bound = f"at least {shortest}" if value < least else "less"
        raise _refused(f"{name}={text}", f"write {bound}, such as {name}={_default(field)}")
    return value


def _money(text: str) -> float:
    if not _MONEY.fullmatch(text) or not LEAST["cost"] <= float(text) <= MOST_COST:
        raise _refused(f"cost={text}", "write US dollars, at least 0.01, such as cost=2.50")
    return float(text)


def _default(field: str) -> str:
    value = int(getattr(Budget() if field in _SPENDING else SandboxLimits(), field))
    return _shown(value) if field.endswith("_bytes") else str(value)


def _shown(value: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if value % _UNITS[unit] == 0:
            return f"{value // _UNITS[unit]}{unit}"
    return str(value)


def _refused(part: str, advice: str) -> ConfigurationError:
    return ConfigurationError(f"PYTHONIC_LIMITS has {part!r}: {advice}.")
