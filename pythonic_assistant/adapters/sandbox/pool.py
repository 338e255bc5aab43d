"""A few boxes that are kept prepared, because preparing one takes longer than a person likes to wait."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pythonic_assistant.adapters.sandbox.box import Box
from pythonic_assistant.adapters.sandbox.details import details_of
from pythonic_assistant.domain.errors import SandboxUnavailableError

_PAUSE_SECONDS = 0.5
_FAILURES = 6  # starts in a row before giving up: 16 s with the pauses between them
_STOP_SECONDS = 5.0
_log = logging.getLogger(__name__)

ShapeT = TypeVar("ShapeT")


class Launcher(Protocol[ShapeT]):
    """Starts boxes of one kind. Its methods are called on the event loop's thread."""

    @property
    def tier(self) -> str:
        """What isolates them."""
        ...

    @property
    def same_user(self) -> bool:
        """Whether sessions run as the user of this process, and may read what it may."""
        ...

    def shape(self, request: Mapping[str, Any]) -> ShapeT:
        """Return what of a request has to be known when its box starts."""
        ...

    def launch(self, shape: ShapeT, folder: Path) -> Box:
        """Start a box, without waiting until it is ready.

        Args:
            shape: of the box.
            folder: of the box; made by this, and removed by the box.

        Raises:
            SandboxUnavailableError: it did not start.
        """
        ...


class BoxPool(Generic[ShapeT]):
    """Boxes that are prepared, being prepared, and in use.

    Args:
        launcher: starts them.
        folder: where the folders of boxes are made.
        size: how many of the usual shape are kept prepared.
        usual: the shape that most requests have.

    Attributes:
        details: what the last box told about its walls: see `details.details_of`.
    """

    def __init__(self, launcher: Launcher[ShapeT], folder: Path, *, size: int, usual: ShapeT) -> None:
        self._launcher = launcher
        self._folder = folder
        self._size = size
        self._usual = usual
        self._names = itertools.count(1)
        self._ready: deque[Box] = deque()
        self._all: set[Box] = set()
        # Importing keeps a core busy: more at once would only make each of them late.
        self._starting = asyncio.Semaphore(max(2, os.cpu_count() or 1))
        self._waiting = 0
        self.details: Mapping[str, str | int] = {}
        self._wanted = asyncio.Event()

    @property
    def prepared(self) -> int:
        """How many boxes wait for a request."""
        return len(self._ready)

    async def start(self) -> None:
        """Prepare the first box, which shows whether this host can, and what its walls are.

        Raises:
            SandboxUnavailableError: it cannot.
        """
        self._ready.append(await self._launch(self._usual))
        self._wanted.set()

    async def take(self, shape: ShapeT) -> Box:
        """Return a box for one request: one that waits, or a new one.

        Raises:
            SandboxUnavailableError: a new one did not start.
        """
        if shape == self._usual:
            while self._ready:
                box = self._ready.popleft()
                self._wanted.set()
                if box.alive:
                    return box
        self._waiting += 1
        try:
            return await self._launch(shape)
        finally:
            self._waiting -= 1
            self._wanted.set()

    async def keep_filled(self) -> str:
        """Prepare boxes as others are taken; people who wait come first.

        Returns:
            Why it gave up.
        """
        failures = 0
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while len(self._ready) < self._size and not self._waiting:
                try:
                    self._ready.append(await self._launch(self._usual))
                    failures = 0
                except (SandboxUnavailableError, OSError) as error:
                    failures += 1
                    _log.exception("a box did not start", extra={"action": "box_failed"})
                    if failures == _FAILURES:
                        return f"{failures} starts of a box failed in a row, the last because: {error}"
                    await asyncio.sleep(_PAUSE_SECONDS * 2 ** (failures - 1))

    async def close(self) -> None:
        """End every box, used or not."""
        self._ready.clear()
        boxes = list(self._all)
        for box in boxes:
            box.kill()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                for box in boxes:
                    await box.wait_gone()
        except TimeoutError:
            # Stuck in the kernel; they die as soon as that lets go, and are in nobody's way.
            _log.error("killed boxes linger", extra={"action": "box_lingers"})

    async def _launch(self, shape: ShapeT) -> Box:
        async with self._starting:
            box = self._launcher.launch(shape, self._folder / str(next(self._names)))
            self._all.add(box)
            box.when_ended(lambda: self._forget(box))
            try:
                self.details = details_of(await box.ready())
            except BaseException:
                box.kill()
                raise
        return box

    def _forget(self, box: Box) -> None:
        self._all.discard(box)
        if box in self._ready:  # else whoever waits for it, or uses it, notices
            self._ready.remove(box)
            box.kill()  # lets go of what is still held for it
            self._wanted.set()
