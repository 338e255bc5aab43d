"""All processes of a session, as its init sees them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

_SECONDS = 2.0
_PAUSE_SECONDS = 0.001


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
    me = os.getpid()
    above: int | None = process
    seen: set[int] = set()
    while above is not None and above not in seen:
        seen.add(above)
        above = _parent(above)
        if above == me:
            return True
    return False


def end_all(spared: Collection[int]) -> bool:
    """Kill all members but those spared, and collect them; return whether they are gone.

    They are stopped first: a stopped process cannot fork, and counts against the limit of processes, so
    that a fork bomb runs out of room after a few rounds.
    """
    until = time.monotonic() + _SECONDS
    stopped: set[int] = set()
    while time.monotonic() < until:
        fresh = [process for process in members() if process not in spared and process not in stopped]
        if not fresh:
            break
        for process in fresh:
            _signal(process, signal.SIGSTOP)
        stopped.update(fresh)
    for process in members():
        if process not in spared:
            _signal(process, signal.SIGKILL)
    while time.monotonic() < until:
        _collect()
        if all(process in spared for process in members()):
            return True
        time.sleep(_PAUSE_SECONDS)
    return False


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
