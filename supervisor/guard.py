"""Outlives the supervisor for a moment: ends every process group that a killed one had started.

Run as a programme with the standard library alone. Its standard input has lines `+<group>` and `-<group>`;
the end of the input means that the supervisor is gone, however it ended. Unlike the kernel's death signal,
this reaches the children's children too, goes on to SIGKILL, and works on macOS.
"""

from __future__ import annotations

import os
import signal
import sys
import time

# Enough for PostgreSQL's fast shutdown; a worker's unfinished tasks are taken over when their leases end.
GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.05


def _signal(groups: set[int], number: int) -> set[int]:
    """Send a signal to each group, and return those that are still there."""
    alive: set[int] = set()
    for group in groups:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            continue
        except PermissionError:  # macOS says so of a group that holds only zombies
            continue
        alive.add(group)
    return alive


def main() -> None:
    """Read until the end of the input, then end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        mark, group = line[:1], int(line[1:])
        if mark == "+":
            groups.add(group)
        else:
            groups.discard(group)
    alive = _signal(groups, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while alive and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        alive = _signal(alive, 0)
    _signal(alive, signal.SIGKILL)


if __name__ == "__main__":
    main()
