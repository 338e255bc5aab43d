"""The files and the folder a session gets: opened here, by us, so that nothing else can ever be bound."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pythonic_assistant.adapters.sandbox.inside.frames import MAX_DESCRIPTORS
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.files import InputFile

_NAME_BYTES = 255  # NAME_MAX
MAX_INPUTS = (MAX_DESCRIPTORS - 3) // 2 - 1  # the session holds each file and its mount, and a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenInput:
    """An input file that is open for reading; `descriptor` is the holder's to close."""

    name: str
    path: str
    descriptor: int


def open_inputs(inputs: Sequence[InputFile]) -> list[OpenInput]:
    """Open all files, or none.

    Raises:
        InvalidInputError: a name that cannot be used, a duplicate, or a file that cannot be read.
    """
    if len(inputs) > MAX_INPUTS:
        raise InvalidInputError(f"A task may have {MAX_INPUTS} files; {len(inputs)} were given.")
    opened: list[OpenInput] = []
    seen: set[str] = set()
    try:
        for entry in inputs:
            _ensure_name(entry.name, seen)
            opened.append(_open(entry))
    except BaseException:
        close_inputs(opened)
        raise
    return opened


def open_folder(folder: Path, *, needs_inputs: bool) -> OpenInput:
    """Open a folder that a session shall see.

    Raises:
        InvalidInputError: it cannot be read, or lacks a folder `inputs` where one is needed.
    """
    try:
        path = os.path.realpath(folder, strict=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise InvalidInputError(f"The folder {str(folder)!r} cannot be read: {error.strerror}.") from error
    if needs_inputs and not _holds_folder(descriptor, "inputs"):
        os.close(descriptor)
        raise InvalidInputError(f"The folder {str(folder)!r} has no folder `inputs` for the input files.")
    return OpenInput(name="", path=path, descriptor=descriptor)


def _holds_folder(descriptor: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)
    except OSError:
        return False


def close_inputs(opened: Sequence[OpenInput]) -> None:
    """Close our side; mounts inside stay."""
    for entry in opened:
        os.close(entry.descriptor)


def _ensure_name(name: str, seen: set[str]) -> None:
    problem = ""
    if not name or name.startswith("."):
        problem = "is empty or begins with a dot"
    elif "/" in name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        problem = "has a slash or a control character"
    elif any(0xD800 <= ord(letter) <= 0xDFFF for letter in name) or len(name.encode()) > _NAME_BYTES:
        problem = f"is not text of at most {_NAME_BYTES} bytes"
    elif name in seen:
        problem = "is given twice"
    if problem:
        raise InvalidInputError(f"The file name {name[:80]!r} {problem}; rename the file.")
    seen.add(name)


def _open(entry: InputFile) -> OpenInput:
    try:
        path = os.path.realpath(entry.path, strict=True)
        # O_NONBLOCK: a pipe in the place of a file shall not make us wait for its writer
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInputError(f"The file {entry.name!r} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidInputError(f"{entry.name!r} is not a regular file.")
    return OpenInput(name=entry.name, path=path, descriptor=descriptor)
