"""The names that code in a session can import, found by looking at folders: nothing is imported for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

CURRENT = "current"
"""The link or folder, in a folder of extra packages, that sessions import from."""
OWN = frozenset({"saved"})
"""What every session has of its own; `tools` is there only where some are granted."""


def standard_library() -> frozenset[str]:
    """Return the names of the standard library."""
    return frozenset(sys.stdlib_module_names)


def modules_in(folders: Iterable[Path]) -> frozenset[str]:
    """Return the names of the top-level modules and packages in folders of `sys.path`.

    As Python's finder takes them (importlib.machinery.FileFinder): source files, compiled extensions, and
    folders, which are packages even without an `__init__.py`.
    """
    found: set[str] = set()
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                found.update(name for entry in entries if (name := _module(entry)))
        except OSError:  # there is no such folder, or not any more
            continue
    return frozenset(found)


def _module(entry: os.DirEntry[str]) -> str:
    name, _, ending = entry.name.partition(".")
    if not name.isidentifier() or name == "__pycache__":
        return ""
    if not ending:
        return name if entry.is_dir() else ""
    return name if ending in ("py", "pyc") or ending.endswith("so") else ""
