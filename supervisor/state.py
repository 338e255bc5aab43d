"""The state folder of one machine's stack: made private, and held by one stack at a time."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

from pythonic_assistant.domain.errors import ConfigurationError

# PostgreSQL stops when it cannot write; the first start takes about 60 MB and a checkpoint up to 80 MB more.
LEAST_FREE_BYTES = 200 << 20
# A guard ends the stack of a killed supervisor within this time (guard.GRACE_SECONDS and a margin).
ENDING_SECONDS = 20.0


class StateFolder:
    """Holds the folder from `hold` to `release`.

    The lock is the kernel's (flock), so it cannot be left behind by a process that is gone. The guard
    inherits it, so the folder stays held until the last child of a killed supervisor has ended.

    Attributes:
        path: the folder.
        logs: where children write.
    """

    def __init__(
        self, path: Path, *, on_wait: Callable[[str], None], least_free_bytes: int = LEAST_FREE_BYTES
    ) -> None:
        self.path = path
        self.logs = path / "logs"
        self._on_wait = on_wait
        self._least_free_bytes = least_free_bytes
        self._descriptor = -1

    @property
    def descriptor(self) -> int:
        """Of the locked file; whoever inherits it holds the folder too."""
        return self._descriptor

    def _ensure_own(self, folder: Path) -> None:
        """Refuse a folder in which another user could put something in the place of keys."""
        found = folder.stat()
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigurationError(
                f"The folder {folder} belongs to another user, or others may write in it: give it to this "
                "user alone (chmod go-w), or set PYTHONIC_HOME to another folder."
            )

    async def hold(self) -> None:
        """Make the folder and hold it.

        Raises:
            ConfigurationError: the folder cannot be written, its disk is full, or another stack runs there.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._ensure_own(self.path)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            self._ensure_own(self.logs)
            self._descriptor = os.open(self.path / "stack.lock", os.O_RDWR | os.O_CREAT, 0o600)
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise ConfigurationError(
                f"The state folder {self.path} cannot be written ({error.strerror}): give this user the "
                "right to, or set PYTHONIC_HOME to another folder."
            ) from error
        if free < self._least_free_bytes:
            raise ConfigurationError(
                f"The disk of the state folder {self.path} has only {free >> 20} MB left: make room for at "
                f"least {self._least_free_bytes >> 20} MB, or set PYTHONIC_HOME to a folder on another disk."
            )
        await self._lock()
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:
            raise ConfigurationError(
                f"The state folder {self.path} cannot be written ({error.strerror})."
            ) from error

    def release(self) -> None:
        """Let go of the folder. May be called twice, and after a `hold` that failed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)  # closing ends the lock; removing the file would allow two locks
            self._descriptor = -1

    async def _lock(self) -> None:
        deadline = time.monotonic() + ENDING_SECONDS
        told = False
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
                if _runs(holder) or time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"Pythonic Assistant already runs on the state folder {self.path} (process "
                        f"{holder or 'unknown'}): stop it first, or set another PYTHONIC_HOME and ports."
                    ) from None
                if not told:
                    self._on_wait("An earlier start was killed; waiting for its last processes to end.")
                    told = True
                await asyncio.sleep(0.05)
            else:
                return


def _runs(holder: str) -> bool:
    if not holder.isdigit():
        return False  # it holds the lock but has not written its number yet, or the file is damaged: wait
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
