"""Keeps a child process alive, and owns the tasks that do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from pythonic_assistant.domain.errors import AssistantError

log = logging.getLogger(__name__)

BACKOFF_SECONDS = (0.0, 0.1, 0.3, 1.0, 3.0, 5.0)
STEADY_SECONDS = 10.0
"""A child that lived this long is restarted without waiting."""


class Child(Protocol):
    """A process that can be started again.

    Attributes:
        name: for messages.
    """

    name: str

    async def start(self) -> None:
        """Start it and wait until it works; raises `AssistantError` if it does not come up."""
        ...

    async def wait(self) -> int:
        """Wait for its end; return its exit code."""
        ...


async def keep_alive(child: Child) -> None:
    """Restart a child whenever it ends, until cancelled; waits longer from failure to failure."""
    clock = asyncio.get_running_loop().time
    failures = 0
    while True:
        began = clock()
        code = await child.wait()
        failures = 0 if clock() - began >= STEADY_SECONDS else failures
        log.warning("%s ended with code %s and is started again", child.name, code)
        while True:
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1
            try:
                await child.start()
                break
            except (AssistantError, OSError) as error:
                log.error("%s could not be started again: %s", child.name, error)  # noqa: TRY400


class Tasks:
    """Tasks with one owner: they are awaited when it closes, and the first failure is kept."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something until it ends or `close` is called."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def failure(self) -> None:
        """Wait for the first task that fails, and raise its error; waits for ever if none does."""
        await asyncio.shield(self._failed)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failed.done():
            with contextlib.suppress(Exception):
                self._failed.result()
        else:
            self._failed.cancel()
