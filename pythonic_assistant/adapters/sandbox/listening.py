"""The Unix socket at which a zygote is found: made, and removed by whoever made it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import tempfile
import time
from pathlib import Path

from pythonic_assistant.domain.errors import ConfigurationError

_BACKLOG = 512
_PATH_BYTES = 107  # sun_path of unix(7), less its final NUL
# A zygote whose owner was killed hears of it at once, but needs a moment to give back its memory and with
# it the socket.
_ORPHAN_SECONDS = 2.0
_ORPHAN_POLL_SECONDS = 0.1


class ListeningSocket:
    """Owns a socket and its place in the file system.

    Args:
        path: where to listen; by default in a fresh folder of our own.
        tier: what isolates behind it; told to whoever knows only the path, by a file beside it.
    """

    def __init__(self, path: Path | None = None, *, tier: str = "namespaces") -> None:
        self._path = path
        self._tier = tier
        self._own_folder: Path | None = None
        self._socket: socket.socket | None = None
        self._made: tuple[int, int] | None = None  # device and inode of the socket that we made

    @property
    def path(self) -> Path:
        """Where it listens.

        Raises:
            ConfigurationError: it was not opened, and no path was given.
        """
        if self._path is None:
            raise ConfigurationError("Start the zygote before asking for its socket.")
        return self._path

    @property
    def socket(self) -> socket.socket:
        """The socket itself.

        Raises:
            ConfigurationError: it is not open.
        """
        if self._socket is None:
            raise ConfigurationError("The zygote has been closed.")
        return self._socket

    async def open(self) -> None:
        """Listen; the socket's folder is made with mode 0700 if it does not exist.

        Raises:
            ConfigurationError: the path cannot be used, or somebody else listens there.
        """
        if self._path is None:
            self._own_folder = Path(tempfile.mkdtemp(prefix="pythonic-"))  # mkdtemp makes it 0700
            self._path = self._own_folder / "zygote.sock"
        if len(os.fsencode(self._path)) > _PATH_BYTES:
            raise ConfigurationError(
                f"The sandbox's socket path {self._path} is longer than {_PATH_BYTES} bytes; "
                "choose a shorter state folder."
            )
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            await _clear(self._path)
            _tier_file(self._path).write_text(self._tier)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(str(self._path))
            self._made = _identity(self._path)
            self._path.chmod(0o600)
            self._socket.listen(_BACKLOG)
        except OSError as error:
            raise ConfigurationError(
                f"The sandbox's socket {self._path} cannot be made ({error.strerror}): give this user the "
                "right to write in its folder, or choose another state folder."
            ) from error

    def refuse(self) -> None:
        """Listen no more, so that callers are refused instead of waiting for nobody."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Listen no more, and remove the socket unless another took its place. May be called twice."""
        self.refuse()
        made, self._made = self._made, None
        if made is not None and _identity(self.path) == made:
            self.path.unlink(missing_ok=True)
            _tier_file(self.path).unlink(missing_ok=True)
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)
            self._own_folder = self._path = None


def tier_at(path: Path) -> str:
    """Return what isolates behind a socket: what its owner wrote beside it."""
    try:
        return _tier_file(path).read_text()
    except OSError:  # nobody has started there yet; the first `open` will say so
        return "namespaces"


def _tier_file(path: Path) -> Path:
    return path.with_suffix(".tier")


async def _clear(path: Path) -> None:
    """Remove a socket that an earlier owner left, but none on which somebody listens.

    Raises:
        ConfigurationError: something is there that is not ours to remove.
    """
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while True:
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise ConfigurationError(
                f"{path} shall be the sandbox's socket, but is another kind of file: move it away."
            )
        if not _is_served(path):
            path.unlink(missing_ok=True)
            return
        if time.monotonic() >= deadline:
            raise ConfigurationError(
                f"Another process serves a sandbox at {path}: stop it, or choose another state folder."
            )
        await asyncio.sleep(_ORPHAN_POLL_SECONDS)


def _is_served(path: Path) -> bool:
    """Whether somebody listens; one whose queue is full (BlockingIOError) does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.setblocking(False)
        try:
            visitor.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True
    return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
