"""The runner's process as the worker sees it: started ahead, given an order, read by lines, killed whole."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pythonic_assistant.wire import (
    LONGEST_LINE,
    RunOrder,
    TimedEvent,
    ToolAnswered,
    ToolAsked,
    read_from_runner,
    write_answer,
    write_order,
)

log = logging.getLogger(__name__)

_PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
"""What a runner needs to reach a model; keys are not among it, they come in the order."""


LONGEST_LOG = 10 << 20
"""Bytes after which the runners' log begins anew at the next start of the worker."""
HEAD_START_SECONDS = 0.3
"""Importing is half a second of one core: it waits until a run has sent its first request to the model."""


class Runner:
    """One process; made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, log_file: BinaryIO, folder: Path) -> Runner:
        """Start a runner that imports what it needs and waits for its order."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pythonic_assistant",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log_file,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            cwd=folder,
            start_new_session=True,
            limit=LONGEST_LINE,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """Process id, which is the group's too."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.returncode is None

    async def give(self, order: RunOrder) -> None:
        """Hand over the order; stdin stays open, its end would stop the runner.

        Raises:
            BrokenPipeError, ConnectionResetError: the runner is gone.
        """
        await self._write(write_order(order))

    async def answer(self, answered: ToolAnswered) -> None:
        """Hand over a tool's result.

        Raises:
            BrokenPipeError, ConnectionResetError: the runner is gone.
        """
        await self._write(write_answer(answered))

    async def _write(self, line: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(line)  # whole lines: what several callers write does not mix
        await stdin.drain()

    async def lines(self) -> AsyncIterator[TimedEvent | ToolAsked]:
        """Yield events and asks for tools until the runner closes its output.

        Raises:
            InvalidInputError: a line is neither; the rest cannot be trusted either.
        """
        stdout = self._process.stdout
        assert stdout is not None
        while line := await stdout.readline():
            yield read_from_runner(line)

    async def kill(self) -> int:
        """End the whole process group at once; returns the exit status."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return await self._process.wait()

    async def wait(self) -> int:
        """Wait for the end; returns the exit status, negative for a signal."""
        return await self._process.wait()


class SpareRunner:
    """Keeps one runner imported, because importing a model's client takes longer than a task may wait."""

    def __init__(self, log_path: Path, folder: Path) -> None:
        if log_path.exists() and log_path.stat().st_size > LONGEST_LOG:
            log_path.replace(log_path.with_suffix(".log.1"))
        self._log = log_path.open("ab")
        self._folder = folder
        self._spare: asyncio.Task[Runner] | None = None
        self._closed = False

    def prepare(self) -> None:
        """Start a spare unless there is one."""
        if self._spare is None and not self._closed:
            self._spare = asyncio.create_task(Runner.start(self._log, self._folder), name="spare-runner")

    async def take(self) -> Runner:
        """Take the spare; the next one is started a little later, out of the way of this one's beginning."""
        self.prepare()
        assert self._spare is not None
        spare, self._spare = self._spare, None
        runner = await spare
        asyncio.get_running_loop().call_later(HEAD_START_SECONDS, self.prepare)
        if not runner.alive:
            log.warning("spare runner had ended", extra={"action": "spare_lost"})
            return await Runner.start(self._log, self._folder)
        return runner

    async def close(self) -> None:
        """End the spare, and start none any more."""
        self._closed = True
        if self._spare is not None:
            runner = await self._spare
            await runner.kill()
            self._spare = None
        self._log.close()
