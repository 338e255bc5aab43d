"""How much memory processes use, from /proc."""

from __future__ import annotations

import os
from collections.abc import Sequence

_DISKS = ("/scratch", "/dev/shm")  # noqa: S108


def in_pid_namespace(exact: bool, *, disks: Sequence[str] = _DISKS) -> int:
    """Return the private memory of all processes of a session but its init, and what its disks hold.

    Args:
        exact: see `used_by`.
        disks: folders, each on a disk of its own.
    """
    total = 0
    for disk in disks:
        space = os.statvfs(disk)
        total += (space.f_blocks - space.f_bfree) * space.f_frsize
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and name != "1":
            total += used_by(name, exact=exact)
    return total


def used_by(process: str | int, *, exact: bool) -> int:
    """Return the private memory of a process, in bytes; 0 if it has ended.

    Args:
        process: its number, or "self".
        exact: share pages among the processes that share them (slower).
    """
    source, fields = "status", (b"RssAnon:", b"RssShmem:")
    if exact:
        source, fields = "smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:")
    try:
        with open(f"/proc/{process}/{source}", "rb") as lines:  # noqa: PTH123
            return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(fields))
    except PermissionError:
        # It made itself undumpable to hide: what it shares is then counted in full.
        return used_by(process, exact=False) if exact else 0
    except (FileNotFoundError, ProcessLookupError):  # it ended just now
        return 0
