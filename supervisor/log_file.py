"""Log files of children: appended to, kept small while they are written, read from the end for messages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

KEPT = 2
"""Older texts of a log: `<name>.log.1` is the newest."""
_TAIL_BYTES = 8 << 10


def open_log(path: Path) -> int:
    """Open for appending, private to this user; returns the descriptor, which the caller closes."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def shorten(path: Path, *, limit_bytes: int, kept: int = KEPT) -> bool:
    """Empty a log that has grown above `limit_bytes`, and keep its text in `kept` older files beside it.

    Its writers go on with the file that they have open, so the text is copied and the file truncated; they
    append (O_APPEND), so their next line is at the new end. A line that is written between the two steps is
    lost.

    Returns:
        Whether it was emptied.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the log is as it was.
    """
    if not path.exists() or path.stat().st_size <= limit_bytes:
        return False
    older = [path.with_name(f"{path.name}.{number}") for number in range(1, kept + 1)]
    copy = path.with_name(f"{path.name}.new")
    copy.unlink(missing_ok=True)
    try:
        copy.touch(mode=0o600)
        shutil.copyfile(path, copy)
    except OSError:
        copy.unlink(missing_ok=True)
        raise
    os.truncate(path, 0)
    for place, before in zip(reversed(older[1:]), reversed(older[:-1]), strict=True):
        if before.exists():
            before.replace(place)
    copy.replace(older[0])
    return True


def last_line(path: Path, *, since: int) -> str:
    """The last line with text that was written after byte `since`, or an empty string.

    In a log that is smaller than `since`, because it was shortened, all is new.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
