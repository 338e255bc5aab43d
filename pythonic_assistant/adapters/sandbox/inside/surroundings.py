"""What of a session depends on its tier."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from . import memory


def _nothing() -> str | None:
    return None


def _pass(code: int) -> None:
    """Nobody counts."""


def _no_wait() -> None:
    """Nobody counts."""


def _never() -> bool:
    return False


def _leave() -> NoReturn:
    os._exit(0)  # as pid 1 of the session: the kernel ends all others before


_FILES = frozenset({"disk", "inodes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """How session init measures and ends a session; by default one that is alone in its namespaces.

    Attributes:
        facts: what the host shall know about the walls.
        lifeline: a descriptor that becomes readable when the session must end.
        wall_in: puts up the last walls, in the process that will run the code; None where they all stand.
        used_bytes: counts memory; told whether exactly, which is slower.
        ask: begins to put the code's process, given by its descriptor, where it is counted.
        wait: ends that; the code waits for it.
        out_of_memory: whether the kernel had to end a process for want of memory.
        exceeded: names another limit that is exceeded.
        final: what `exceeded` may name that ends the session even where a state is kept. Of files: they
            stay, and the state before would be ended in its turn.
        leave: ends every process of the session.
    """

    facts: Mapping[str, str | int] = field(default_factory=dict[str, str | int])
    lifeline: int | None = None
    wall_in: Callable[[], None] | None = None
    used_bytes: Callable[[bool], int] = memory.in_pid_namespace
    ask: Callable[[int], None] = _pass
    wait: Callable[[], None] = _no_wait
    out_of_memory: Callable[[], bool] = _never
    exceeded: Callable[[], str | None] = _nothing
    final: Collection[str] = _FILES
    leave: Callable[[], NoReturn] = _leave


ALONE = Surroundings()
