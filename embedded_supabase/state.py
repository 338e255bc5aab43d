"""The state folder: where everything of one embedded Supabase is kept, held by one process at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

from pythonic_assistant.domain.errors import ConfigurationError, StoreUnavailableError

SOCKET_PATH_LIMIT = 100
"""Bytes that a Unix socket's path may have: sun_path holds 108 on Linux and 104 on macOS, with the zero."""


class StateFolder:
    """A folder with a lock, an identity and a place for sockets.

    Attributes:
        path: the folder, absolute.
        logs: where children write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.logs = self.path / "logs"
        self._lock: IO[str] | None = None
        self._short: Path | None = None

    def __enter__(self) -> StateFolder:
        """Create the folder if need be and take its lock.

        Raises:
            ConfigurationError: the folder cannot be made or written.
            StoreUnavailableError: another process holds it; the sentence names its id.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            lock = os.fdopen(os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        except OSError as error:
            raise ConfigurationError(
                f"The state folder {self.path} cannot be used ({error.strerror}): choose another one with "
                "PYTHONIC_HOME, or make room or rights for it."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise StoreUnavailableError(
                f"An embedded Supabase already runs on {self.path} (process {holder}): stop it first, or "
                "choose another state folder."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the lock and remove what was only for this process."""
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)
            self._short = None
        if self._lock is not None:
            self._lock.truncate(0)  # the file stays: removing it would let two processes lock two files
            self._lock.close()
            self._lock = None

    @property
    def identity(self) -> str:
        """Twelve hexadecimal digits that name this folder outside of itself, made once."""
        path = self.path / "id"
        if not path.exists():
            path.write_text(secrets.token_hex(6))
        return path.read_text().strip()

    def socket(self, name: str) -> Path:
        """A path for a Unix socket of this process's owner, in a folder with mode 0700.

        It is in the state folder, or, if that path is too long for a socket, in a fresh folder under the
        system's temporary one.
        """
        folder = self.path / "run"
        if len(os.fsencode(folder / name)) > SOCKET_PATH_LIMIT:
            if self._short is None:
                self._short = Path(tempfile.mkdtemp(prefix="pythonic-"))
            folder = self._short
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        path = folder / name
        path.unlink(missing_ok=True)  # the lock is ours: what is left there is from a process that died
        return path
