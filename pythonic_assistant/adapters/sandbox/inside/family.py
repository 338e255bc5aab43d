"""All processes of a session, as its init sees them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

_STOP_SECONDS = 2.0
_GONE_SECONDS = 15.0  # a killed process still has to give back its memory, on a busy machine
_PAUSE_SECONDS = 0.001
_LOOKS = 20


def members() -> list[int]:
    """Return the session's processes but this one, whether they run or are ended and not yet collected.

    For pid 1 these are all that /proc shows; elsewhere those that descend from this process, which has
    to be a subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)) so that orphans stay among them.
    """
    me = os.getpid()
    found = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    if me == 1:
        return [process for process in found if process != me]
    children: dict[int, list[int]] = {}
    for process in found:
        if (parent := _parent(process)) is not None:
            children.setdefault(parent, []).append(process)
    below: list[int] = []
    waiting = [me]
    while waiting:
        mine = children.get(waiting.pop(), [])
        below += mine
        waiting += mine
    return below


def holds(process: int) -> bool:
    """Whether a process descends from this one; pid 1 of a namespace sees no other."""
    if os.getpid() == 1:
        return process != 1 and _parent(process) is not None
    # A parent may end between two looks: its children have another one by then, so the way up is gone
    # anew. Whoever forked twice to get rid of a process is just about to end when this is asked.
    return any(_leads_here(process) for _ in range(_LOOKS))


def end_all(spared: Collection[int]) -> bool:
    """Kill all members but those spared, and collect them; return whether they are gone.

    They are stopped first: a stopped process cannot fork, and counts against the limit of processes, so
    that a fork bomb runs out of room after a few rounds.
    """
    until = time.monotonic() + _STOP_SECONDS
    stopped: set[int] = set()
    while time.monotonic() < until:
        fresh = [process for process in members() if process not in spared and process not in stopped]
        if not fresh:
            break
        for process in fresh:
            _signal(process, signal.SIGSTOP)
        stopped.update(fresh)
    until = time.monotonic() + _GONE_SECONDS
    while left := [process for process in members() if process not in spared]:
        if time.monotonic() >= until:
            return False
        for process in left:
            _signal(process, signal.SIGKILL)
        _collect()
        time.sleep(_PAUSE_SECONDS)
    return True


def _leads_here(process: int) -> bool:
    """Go up from a process; False also when the way broke off."""
    me = os.getpid()
    above = _parent(process)
    seen: set[int] = set()  # a number may be given out anew meanwhile, and lead in a circle
    while above is not None and above != me and above not in seen:
        seen.add(above)
        above = _parent(above)
    return above == me


def _collect() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _parent(process: int) -> int | None:
    try:
        # The name in brackets may hold anything; behind it: state, parent (proc_pid_stat(5))
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:  # it ended just now
        return None
    return int(fields[1])


def _signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
