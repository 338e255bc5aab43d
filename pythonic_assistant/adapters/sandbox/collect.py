"""Files out of a session's scratch folder, read by the host while whoever is inside may still write.

Every path is resolved by one openat2 call that cannot leave the folder, follow a link, or enter another
mount; what was opened is checked on its descriptor, never by name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pythonic_assistant.adapters.sandbox.inside.syscalls import open_beneath
from pythonic_assistant.adapters.sandbox.media_types import HEAD_BYTES, TAIL_BYTES, media_type
from pythonic_assistant.domain.files import ArtifactFile

_CHUNK = 1 << 20
_MIB = 1 << 20
_INPUTS = "inputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectLimits:
    """Caps on what is taken out of a session.

    Attributes:
        file_bytes: of one file.
        total_bytes: of all files together.
        files: how many.
    """

    file_bytes: int = 64 << 20
    total_bytes: int = 256 << 20
    files: int = 200


@dataclass(slots=True)
class Collection:
    """What was copied, and a sentence for each file that was not."""

    artifacts: list[ArtifactFile] = field(default_factory=list[ArtifactFile])
    skipped: list[str] = field(default_factory=list[str])


class TooLargeError(Exception):
    """The file does not fit; the argument is how large it is at least."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def collect(scratch: int, into: Path, limits: CollectLimits, stop: threading.Event) -> Collection:
    """Copy regular files out of a scratch folder.

    Symlinks, devices, pipes, files with several names, hidden files and `inputs/` are left out silently.

    Args:
        scratch: descriptor of the folder.
        into: folder of the host; made if missing, files of the same names are replaced.
        limits: caps.
        stop: ends the work early when set.
    """
    found = Collection()
    total = 0
    for name in _names(scratch, found.skipped):
        if stop.is_set():
            break
        if len(found.artifacts) >= limits.files:
            found.skipped.append(f"{name} and what follows: only {limits.files} files are taken from a task.")
            break
        room = min(limits.file_bytes, limits.total_bytes - total)
        try:
            artifact = copy(scratch, name, into / name, room)
        except TooLargeError as error:
            cap = (
                f"{_size(limits.file_bytes)} for one file"
                if error.size > limits.file_bytes
                else f"{_size(limits.total_bytes)} for all files"
            )
            found.skipped.append(f"{name}: beyond the limit of {cap}.")
            continue
        except PermissionError:
            found.skipped.append(f"{name}: the code made it unreadable.")
            continue
        except OSError as error:
            found.skipped.append(f"{name}: {error.strerror or error}.")
            continue
        if artifact is not None:
            found.artifacts.append(artifact)
            total += artifact.bytes
    return found


def _names(scratch: int, skipped: list[str]) -> Iterator[str]:
    """Yield the paths of files below the folder, sorted within each folder, outer folders first."""
    folders = deque([""])
    while folders:
        folder = folders.popleft()
        try:
            opened = open_beneath(scratch, folder or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # swapped, made unreadable, another mount, or nested deeper than a path can say
            if folder:
                skipped.append(f"{folder}: this folder cannot be read.")
            continue
        try:
            with os.scandir(opened) as entries:
                kinds = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        finally:
            os.close(opened)
        for name, is_folder in kinds:
            path = f"{folder}/{name}" if folder else name
            if name.startswith(".") or path == _INPUTS:
                continue
            if not name.isprintable():
                skipped.append(f"{path!a}: its name has characters that cannot be shown.")
            elif is_folder:
                folders.append(path)
            else:
                yield path


def copy(scratch: int, name: str, target: Path, room: int) -> ArtifactFile | None:
    """Copy one regular file of a scratch folder; None if it is of a kind that is left out.

    Args:
        scratch: descriptor of the folder.
        name: the file's path in it.
        target: where the copy goes, on the host.
        room: bytes that it may have.

    Raises:
        TooLargeError: it has more.
        OSError: it cannot be read.
    """
    try:
        source = open_beneath(scratch, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        # A symlink (ELOOP) or a socket (ENXIO) is no result; anything else the person shall know of.
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOENT, errno.EXDEV):
            return None
        raise
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return None
        if status.st_size > room:
            raise TooLargeError(status.st_size)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _write(source, target, name, room)
        except TooLargeError:
            target.unlink()
            raise
    finally:
        os.close(source)


def _write(source: int, target: Path, name: str, room: int) -> ArtifactFile:
    digest = hashlib.sha256()
    size = 0
    head = tail = b""
    with target.open("wb") as copy:
        while chunk := os.read(source, _CHUNK):
            size += len(chunk)
            if size > room:  # it grew while it was read
                raise TooLargeError(size)
            head = head or chunk[:HEAD_BYTES]
            tail = (tail + chunk)[-TAIL_BYTES:]
            digest.update(chunk)
            copy.write(chunk)
    kind = media_type(name, head, tail)
    return ArtifactFile(name=name, path=target, media_type=kind, bytes=size, sha256=digest.hexdigest())


def _size(count: int) -> str:
    return f"{count / _MIB:,.0f} MiB" if count >= _MIB else f"{count:,} bytes"
