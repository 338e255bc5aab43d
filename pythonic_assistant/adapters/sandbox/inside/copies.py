"""Copies of files of the host, for sessions whose user cannot read them where they are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MOST_BYTES = 256 << 20


def copy_readable(shown: Path, into: Path) -> None:
    """Copy a folder with everything in it, readable for everybody; symlinks stay what they are.

    Args:
        shown: made by the host for this; what it holds is not changing.
        into: made if missing.

    Raises:
        OSError: it is larger than `MOST_BYTES`, or cannot be copied.
    """
    size = sum(path.lstat().st_size for path in shown.rglob("*"))
    if size > MOST_BYTES:
        raise OSError(f"the folder to look at has {size:,} bytes, more than the {MOST_BYTES:,} for a copy")
    shutil.copytree(shown, into, symlinks=True, copy_function=shutil.copyfile, dirs_exist_ok=True)
    for path in (into, *into.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def copy_file(descriptor: int, target: Path) -> None:
    """Copy an open file, from its beginning, into one that everybody may read."""
    offset = 0
    with target.open("wb") as copy:
        while chunk := os.pread(descriptor, 1 << 20, offset):
            copy.write(chunk)
            offset += len(chunk)
    target.chmod(0o444)
