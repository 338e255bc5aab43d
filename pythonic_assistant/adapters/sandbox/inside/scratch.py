"""Folders of the host's disk that sessions without namespaces write into, and their removal."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from pathlib import Path

_LOCK = "lock"
_ATTEMPTS = 50


class ScratchError(OSError):
    """There is no safe place; the message says why."""


def base(below: str, *, others_pass: bool) -> Path:
    """Return the folder that holds the folders of all zygotes of this user; it is made if it is missing.

    Args:
        below: a folder of the host.
        others_pass: whether users of sessions must be able to pass through.

    Raises:
        ScratchError: it cannot be made, belongs to somebody else, or others may write in it.
    """
    me = os.geteuid()
    folder = Path(below, f"pythonic-sandbox-{me}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ScratchError(f"{folder} cannot be made ({error.strerror})") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != me or found.st_mode & 0o022:
        raise ScratchError(f"{folder} belongs to somebody else, or others may write in it: remove it")
    # Never closed again: another zygote of this user may hold sessions below whose users pass through.
    folder.chmod(0o711 if others_pass or found.st_mode & stat.S_IXOTH else 0o700)
    if others_pass:
        for parent in folder.parents:
            if not parent.stat().st_mode & stat.S_IXOTH:
                raise ScratchError(
                    f"the users of sessions cannot pass {parent}: choose another folder (TMPDIR), or let "
                    f"others pass (chmod o+x {parent})"
                )
    return folder


def claim(folder: Path, *, others_pass: bool) -> tuple[Path, int]:
    """Make a folder for one zygote, and remove those of zygotes that have ended without doing so.

    Args:
        folder: of `base`.
        others_pass: whether users of sessions must be able to pass through.

    Returns:
        The folder, and a descriptor that must stay open as long as it is in use.
    """
    with _Locked(folder):
        for left in [found for found in folder.iterdir() if found.is_dir()]:
            held = _take(left)
            if held is None:
                continue
            os.close(held)
            remove(left)
        made = folder / secrets.token_hex(6)
        made.mkdir()
        made.chmod(0o711 if others_pass else 0o700)
        held = _take(made)
    if held is None:
        raise ScratchError(f"{made} was taken by somebody else")
    return made, held


class _Locked:
    """Holds a folder, so that nobody removes what another is about to lock."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _take(folder: Path) -> int | None:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def remove(folder: Path) -> None:
    """Remove a folder with everything in it, however deeply nested, without following links.

    Nobody may be writing in it any more, but may just be dying.
    """
    for _ in range(_ATTEMPTS):
        try:
            _remove(folder)
        except FileNotFoundError:
            return
        except OSError:  # something was added by a process that is not quite dead
            continue
        return


def _remove(folder: Path) -> None:
    """Move folders within folders to the top, one by one: no path gets long, and nothing recurses."""
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while waiting := _emptied(top, top):
            for name in waiting:
                # Its owner may have made it unreadable; no other process is left that could swap it.
                os.chmod(name, 0o700, dir_fd=top)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
                try:
                    _emptied(inner, top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    folder.rmdir()


def _emptied(folder: int, top: int) -> list[str]:
    """Remove the files of a folder, and move its folders to the top; return the folders of the top."""
    found: list[str] = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
            elif folder == top:
                found.append(entry.name)
            else:
                # A folder that is moved gets a new "..": its owner must be able to write in it.
                os.chmod(entry.name, 0o700, dir_fd=folder)
                os.rename(entry.name, secrets.token_hex(8), src_dir_fd=folder, dst_dir_fd=top)
    return found
