"""What of a session depends on its tier."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from . import memory


def _nothing() -> str | None:
    return None


def _leave() -> NoReturn:
    os._exit(0)  # as pid 1 of the session: the kernel ends all others before


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """How session init measures and ends a session; by default one that is alone in its namespaces.

    Attributes:
        facts: what the host shall know about the walls.
        lifeline: a descriptor that becomes readable when the session must end.
        wall_in: puts up the last walls, in the process that will run the code; None where they all stand.
        environment: variables of the code, before the usual ones.
        used_bytes: counts memory; told whether exactly, which is slower.
        exceeded: names another limit that is exceeded.
        leave: ends every process of the session.
    """

    facts: Mapping[str, str | int] = field(default_factory=dict[str, str | int])
    lifeline: int | None = None
    wall_in: Callable[[], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    used_bytes: Callable[[bool], int] = memory.in_pid_namespace
    exceeded: Callable[[], str | None] = _nothing
    leave: Callable[[], NoReturn] = _leave


ALONE = Surroundings()
