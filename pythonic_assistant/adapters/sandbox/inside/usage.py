"""What a session uses where no kernel object counts it: all processes below its init, and their files.

Runs in session init, which is outside of the walls of the code and sees the host's /proc.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from . import memory

_BLOCK = 512  # st_blocks, stat(2)
_REST = 10  # pauses of the disk's count, as multiples of the time that it takes
_EXITING = 0x4  # PF_EXITING, include/linux/sched.h; in the field "flags" of proc_pid_stat(5)
_OWN_PROCESSES = 2  # init and REPL come on top of the limit


class Usage:
    """Counts what the descendants of this process use.

    Args:
        folders: where they may write.
        limits: of the session, by the names of `SandboxLimits`.
    """

    def __init__(self, folders: Sequence[str], limits: Mapping[str, int]) -> None:
        self._folders = tuple(folders)
        self._limits = limits
        self._disk_due = 0.0
        self._hidden: set[int] = set()
        self._has_children_files = Path(f"/proc/self/task/{os.getpid()}/children").exists()

    def memory_bytes(self, *, exact: bool) -> int:
        """Return the private memory of all descendants."""
        return sum(memory.used_by(process, exact=exact) for process in self.processes())

    def exceeded(self) -> str | None:
        """Return the name of a limit that is exceeded: "processes", "disk", "inodes" or "hidden"."""
        most = self._limits["processes"] + _OWN_PROCESSES
        # Not one more is listed than matters: whoever forks without an end is faster than a full count.
        processes = list(islice(self.processes(), most))
        if len(processes) + 1 > most:
            return "processes"
        now = time.monotonic()
        if now < self._disk_due:
            return None
        exceeded = self._disk(processes)
        self._disk_due = time.monotonic() + _REST * (time.monotonic() - now)
        return exceeded

    def processes(self) -> Iterator[int]:
        """Yield the descendants of this process; orphans are among them, because it is a subreaper."""
        if not self._has_children_files:  # a kernel without CONFIG_PROC_CHILDREN
            yield from _members(os.getpgrp())
            return
        waiting = [os.getpid()]
        seen: set[int] = set(waiting)
        while waiting:
            for child in _children(waiting.pop()):
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)
                    yield child

    def _disk(self, processes: Sequence[int]) -> str | None:
        most_bytes, most_inodes = self._limits["disk_bytes"], self._limits["inodes"]
        used = inodes = 0
        counted: set[tuple[int, int]] = set()
        for status in self._files(processes):
            if (status.st_dev, status.st_ino) in counted:
                continue
            counted.add((status.st_dev, status.st_ino))
            inodes += 1
            used += status.st_blocks * _BLOCK
            if used > most_bytes:
                return "disk"
            if inodes > most_inodes + len(self._folders):
                return "inodes"
        for process in processes:
            used += _deleted_mappings(process, self._folders, counted)
        if used > most_bytes:
            return "disk"
        # A process that is just starting cannot be read either: only the second time counts.
        hidden = {process for process in processes if _is_hidden(process)}
        lasting, self._hidden = self._hidden & hidden, hidden
        return "hidden" if lasting else None

    def _files(self, processes: Sequence[int]) -> Iterator[os.stat_result]:
        """Yield files and folders below the folders, and those without a name that are still open."""
        waiting = list(self._folders)
        while waiting:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        try:
                            yield entry.stat(follow_symlinks=False)
                        except OSError:  # removed just now
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
            except OSError:  # removed just now, or nested deeper than a path can say
                continue
        for process in processes:
            yield from _nameless(process)


def _children(process: int) -> Iterator[int]:
    try:
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208
            with open(f"/proc/{process}/task/{thread}/children", "rb") as line:  # noqa: PTH123
                yield from (int(word) for word in line.read().split())
    except OSError:  # it ended just now
        return


def _members(group: int) -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and int(name) != os.getpid():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended just now
                continue
            if int(fields[2]) == group:
                yield int(name)


def _nameless(process: int) -> Iterator[os.stat_result]:
    folder = f"/proc/{process}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:  # it ended just now, or hides: see `_is_hidden`
        return
    for name in names:
        try:
            found = os.stat(f"{folder}/{name}")  # noqa: PTH116
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
            yield found


def _deleted_mappings(process: int, folders: Sequence[str], counted: set[tuple[int, int]]) -> int:
    """Return the bytes of files that are mapped by a process, but have no name and no descriptor."""
    total = 0
    try:
        with open(f"/proc/{process}/maps", "rb") as lines:  # noqa: PTH123
            for line in lines:
                if not line.endswith(b" (deleted)\n"):
                    continue
                span, _, _, device, inode, path = line.split(maxsplit=5)
                major, _, minor = device.partition(b":")
                key = os.makedev(int(major, 16), int(minor, 16)), int(inode)
                # The device of a mapping is that of the file system below an overlay: the path decides.
                if key not in counted and os.fsdecode(path).startswith(tuple(f"{f}/" for f in folders)):
                    begin, _, end = span.partition(b"-")
                    total += int(end, 16) - int(begin, 16)
    except (OSError, ValueError):  # it ended just now
        return total
    return total


def _is_hidden(process: int) -> bool:
    try:
        os.listdir(f"/proc/{process}/fd")  # noqa: PTH208
    except PermissionError:
        return not _is_ending(process)
    except OSError:
        return False
    return False


def _is_ending(process: int) -> bool:
    """Whether all threads are on their way out: such a process cannot be read, and is about to let go.

    All, because a process whose first thread has ended goes on with the others.
    """
    try:
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208
            line = Path(f"/proc/{process}/task/{thread}/stat").read_text()
            if not int(line.rpartition(")")[2].split()[6]) & _EXITING:
                return False
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
