"""The supervisor's side of the guard: keeps one running and tells it which process groups exist."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

_PROGRAMME = Path(__file__).with_name("guard.py")
_CLOSING_SECONDS = 10.0


class Guarding:
    """Owns the guard process.

    Args:
        inherited: descriptors that the guard keeps open as long as it lives, such as the state folder's lock.
    """

    def __init__(self, *, inherited: tuple[int, ...] = ()) -> None:
        self._inherited = inherited
        self._groups: set[int] = set()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the guard process."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the guard, and tell it of every group that is there already."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(_PROGRAMME),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            pass_fds=self._inherited,
            start_new_session=True,
        )
        for group in self._groups:
            self._tell(f"+{group}")

    async def keep_running(self) -> None:
        """Start another guard whenever one is killed. Runs until cancelled."""
        while True:
            assert self._process is not None, "start() comes first"
            await self._process.wait()
            await asyncio.sleep(0.1)
            await self.start()

    def add(self, group: int) -> None:
        """A process group has begun."""
        self._groups.add(group)
        self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """A process group has ended."""
        self._groups.discard(group)
        self._tell(f"-{group}")

    async def close(self) -> None:
        """End the guard, which first ends every group that has not been removed."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _tell(self, line: str) -> None:
        """Write to the guard. A guard that just died learns it from `start`, when the next one begins."""
        if self._process is not None and self._process.stdin is not None and self._process.returncode is None:
            self._process.stdin.write(f"{line}\n".encode())
