"""Everyday programmes, with the value that each must come to. Nothing may be written to standard error."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from tests.sandbox.suite.programmes import (
    concurrency,
    files,
    language,
    network,
    numbers,
    pictures,
    tables,
)
from tests.sandbox.suite.programmes.programme import Programme

__all__ = ["BY_NAME", "GROUPS", "Programme", "for_tier"]

GROUPS: Mapping[str, tuple[Programme, ...]] = {
    "numbers": numbers.PROGRAMMES,
    "tables": tables.PROGRAMMES,
    "pictures": pictures.PROGRAMMES,
    "files": files.PROGRAMMES,
    "language": language.PROGRAMMES,
    "concurrency": concurrency.PROGRAMMES,
    "network": network.PROGRAMMES,
}
BY_NAME = {programme.name: programme for group in GROUPS.values() for programme in group}
if len(BY_NAME) != sum(len(group) for group in GROUPS.values()):
    raise ValueError("two programmes have the same name")


def for_tier(tier: str) -> tuple[tuple[str, Programme], ...]:
    """Return group and programme for those that must work in a tier with the packages that are installed."""
    return tuple(
        (name, programme)
        for name, group in GROUPS.items()
        for programme in group
        if tier in programme.tiers and all(importlib.util.find_spec(package) for package in programme.needs)
    )
