"""Puts input files into the folder that a box was started with: linked where possible, else copied."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

_CHUNK = 1 << 20
_READABLE_BY_ALL = 0o444


def place_inputs(names: Sequence[str], files: Sequence[int], folder: Path, *, same_user: bool) -> None:
    """Put files into a folder under their names.

    Args:
        names: one for each file.
        files: descriptors, open for reading.
        folder: of the box; seen read-only from inside, so that a link cannot be written through.
        same_user: whether the session's user is the one who opened the files, and may read what he may.

    Raises:
        ValueError: a name that is a path, or not as many names as files.
        OSError: there is no room for a copy, or a name is given twice.
    """
    target = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name, file in zip(names, files, strict=True):
            if not name or name in (".", "..") or "/" in name or "\0" in name:
                raise ValueError(f"{name!r} is no name of a file")
            if not _linked(file, name, target, same_user=same_user):
                _copy(file, name, target)
    finally:
        os.close(target)


def _linked(file: int, name: str, target: int, *, same_user: bool) -> bool:
    """Give the very file that is open a second name: no copying, however large it is."""
    if not same_user and not os.fstat(file).st_mode & stat.S_IROTH:
        return False
    try:
        # With a folder given, Python calls linkat(2) with AT_SYMLINK_FOLLOW, as open(2) says for such links.
        os.link(f"/proc/self/fd/{file}", name, src_dir_fd=target, dst_dir_fd=target, follow_symlinks=True)
    except FileExistsError:
        raise
    except OSError:  # another file system, a foreign owner (protected_hardlinks), or no name any more
        return False
    return True


def _copy(file: int, name: str, target: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=target), "wb") as copy:
        offset = 0
        while chunk := os.pread(file, _CHUNK, offset):
            copy.write(chunk)
            offset += len(chunk)
        os.fchmod(copy.fileno(), _READABLE_BY_ALL)
