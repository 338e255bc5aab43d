"""Runs a Python command as an ordinary user: `python as_ordinary_user.py -m pytest ...`, started as root.

With `--as-root` before the command it stays root, but everybody may go to the interpreter.

The interpreter may live where that user cannot go, such as below /root. In a mount namespace of our own,
every folder in the way is covered by an empty, open one that shows only the interpreter, its packages and
the checkout: the host is not changed, and the user gets to see nothing else of those folders.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pythonic_assistant.adapters.sandbox.inside import syscalls  # noqa: E402
from pythonic_assistant.adapters.sandbox.interpreter import python_paths  # noqa: E402

STAY_ROOT = "--as-root"
USER = 60001  # of nobody: no account and no group of the host


def _needed() -> list[str]:
    paths = [*python_paths(), str(ROOT)]
    return list(dict.fromkeys(place for path in paths for place in (path, os.path.realpath(path))))


def _in_the_way(path: str) -> Path | None:
    for folder in reversed(Path(path).parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def is_reachable(path: str) -> bool:
    """Whether everybody may go where a path leads."""
    return _in_the_way(path) is None and _in_the_way(os.path.realpath(path)) is None


def main() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    blocked: dict[Path, list[str]] = {}
    for path in _needed():
        if Path(path).exists() and (folder := _in_the_way(path)) is not None:
            blocked.setdefault(folder, []).append(path)
    for folder, paths in blocked.items():
        opened = [(path, os.open(path, os.O_PATH)) for path in paths]
        syscalls.mount("tmpfs", str(folder), "tmpfs", 0, "mode=755")
        for path, descriptor in opened:
            if Path(f"/proc/self/fd/{descriptor}").is_dir():
                Path(path).mkdir(parents=True, exist_ok=True)
            else:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).touch()
            syscalls.mount(f"/proc/self/fd/{descriptor}", path, None, syscalls.MS_BIND | syscalls.MS_REC)
            os.close(descriptor)
    command = sys.argv[1:]
    if command[0] == STAY_ROOT:
        del command[0]
    else:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    os.chdir(ROOT)
    os.environ.update(HOME="/tmp", PYTHONDONTWRITEBYTECODE="1")
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main()
