"""One box: a process that is prepared for a single session, from its start to the end of that session."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.domain.errors import SandboxUnavailableError

_START_SECONDS = 60.0  # a cold disk on a small machine with many boxes starting; 0.7 s is usual
_MOST_COMPLAINT = 2000
CERTIFICATE_FILE = "authority.pem"
"""In a box's folder; shown to its session, and empty until that gets a way out."""


class Box:
    """Owns a process, the socket to it and its folder on the host.

    Args:
        process: just started, on the thread that lives longest (the kernel ends it with that thread).
        job: socket to it, by which it says that it is ready and is given its request.
        folder: its own, removed when the process has ended.
        inputs: folder below, in which the session finds its input files.
        complaints: descriptor of a file to which the process writes what goes wrong before it is ready.
        before: what the process waits for; called once, in a thread.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        job: socket.socket,
        *,
        folder: Path,
        inputs: Path,
        complaints: int,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._before = before
        self.inputs = inputs
        self._process = process
        self._job: Channel | None = Channel(job)
        self._complaints = complaints
        self._folder = folder
        self._handle = os.pidfd_open(process.pid)
        self._gone = asyncio.Event()
        self._on_end: list[Callable[[], None]] = []
        asyncio.get_running_loop().add_reader(self._handle, self._ended)

    @property
    def pid(self) -> int:
        """Process id of what was started."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended, looked up now."""
        if self._gone.is_set():
            return False
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return not poll.poll(0)

    def when_ended(self, call: Callable[[], None]) -> None:
        """Have something called, on the event loop, once the process has ended."""
        self._on_end.append(call)

    async def ready(self) -> dict[str, Any]:
        """Wait until it is ready; return what it says of itself.

        Raises:
            SandboxUnavailableError: it is not going to be; the message is what it or its walls complained of.
        """
        job = self._job
        assert job is not None, "nobody waits for a box that was given away"
        try:
            if self._before is not None:
                await asyncio.to_thread(self._before)
            async with asyncio.timeout(_START_SECONDS):
                answer = await job.receive()
        except TimeoutError as error:
            raise SandboxUnavailableError(
                f"it was not ready after {_START_SECONDS:g} seconds; the machine is overloaded or its disk "
                "hangs."
            ) from error
        except (EOFError, OSError, frames.FrameError) as error:
            raise SandboxUnavailableError(self._complaint() or "it ended before it was ready.") from error
        if answer.get("event") != "ready":
            raise SandboxUnavailableError(str(answer.get("error") or "it gave no reason."))
        return answer

    def trust(self, certificate: str) -> None:
        """Let the session trust an authority, given as PEM."""
        (self._folder / CERTIFICATE_FILE).write_text(certificate)

    async def give(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Hand over the one request, and let go of the box: its session's host talks to it from now on.

        Raises:
            OSError: it has just died, and has not got the whole request.
        """
        assert self._job is not None, "a box serves one session"
        try:
            await self._job.send(request, descriptors)
        finally:
            self._let_go()

    def kill(self) -> None:
        """End the process, and with it whatever runs in the box. May be called at any time."""
        self._let_go()
        if not self._gone.is_set():
            try:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            except ProcessLookupError:  # it ended by itself, which is noticed in a moment
                return

    async def wait_gone(self) -> None:
        """Wait until the process has ended and been collected, and its folder is removed."""
        await self._gone.wait()

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        self._process.wait()  # it has ended: this only collects it
        self._gone.set()
        os.close(self._handle)
        shutil.rmtree(self._folder, ignore_errors=True)
        for call in self._on_end:
            call()

    def _let_go(self) -> None:
        if self._job is not None:
            self._job.close()
            self._job = None
            os.close(self._complaints)

    def _complaint(self) -> str:
        text = os.pread(self._complaints, _MOST_COMPLAINT, 0).decode("utf-8", "replace").strip()
        return text.splitlines()[-1] if text else ""
