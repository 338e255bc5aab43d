"""Log files of children: appended to, moved aside when large, read from the end for error messages."""

from __future__ import annotations

import os
from pathlib import Path

# Above this size a log becomes `<name>.log.1`, which replaces the one before.
ROTATE_BYTES = 5 << 20
_TAIL_BYTES = 8 << 10


def open_log(path: Path, *, rotate_bytes: int = ROTATE_BYTES) -> int:
    """Open for appending, private to this user; returns the descriptor, which the caller closes."""
    if path.exists() and path.stat().st_size > rotate_bytes:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def last_line(path: Path, *, since: int) -> str:
    """The last line with text that was written after byte `since`, or an empty string."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(min(since, size), size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
