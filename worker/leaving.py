"""Endings on their way into the database: those that wait at the same time are written in one go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from pythonic_assistant.domain.ending import Ending, Failed
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.ports import Endings, Fence

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """An ending, who waits for it to be told, and whether an attempt is still there that has to go."""

    ending: Ending
    told: asyncio.Future[bool]
    attempt: bool


@dataclass(slots=True)
class Batch:
    """Endings that are being written."""

    _store: Endings
    _entries: tuple[Entry, ...]

    @property
    def endings(self) -> tuple[Ending, ...]:
        """What is to be written."""
        return tuple(entry.ending for entry in self._entries)

    def kept(self, kept: Mapping[Fence, bool]) -> None:
        """They were written, or their leases were lost."""
        for entry in self._entries:
            _set(entry.told, kept.get(_fence(entry.ending), False))

    async def one_by_one(self) -> None:
        """Write each by itself, because the database refused something in one of them.

        Raises:
            StoreUnavailableError: the database does not answer; what was written has been told.
        """
        for entry in self._entries:
            try:
                _set(entry.told, await self._store.end(entry.ending))
            except InvalidInputError as error:
                if not entry.told.done():
                    entry.told.set_exception(error)


class Leaving:
    """`ports.Endings` for attempts: `end` waits until the engine has written it with its next turn.

    Args:
        store: where endings are written one by one.
        wake: called when there is something to write.
        ended: told of each ending, and whether it was kept.
    """

    def __init__(
        self, store: Endings, wake: Callable[[], None], ended: Callable[[Ending, bool], None]
    ) -> None:
        self._ended = ended
        self._store = store
        self._wake = wake
        self._entries: dict[Fence, Entry] = {}
        self._on_their_way: set[Fence] = set()
        self._left: set[Fence] = set()

    def __bool__(self) -> bool:
        """Whether there is something to write, or on its way."""
        return bool(self._entries)

    @property
    def unsent(self) -> int:
        """How many endings no batch has taken yet."""
        return len(self._entries) - len(self._on_their_way)

    @property
    def waiting(self) -> frozenset[Fence]:
        """Attempts whose ending is not written: their leases are still of use, their slots are not."""
        return frozenset(self._entries)

    @property
    def left(self) -> frozenset[Fence]:
        """Attempts whose ending is written; they only have to clean up."""
        return frozenset(self._left)

    async def end(self, ending: Ending) -> bool:
        """As `ports.Endings.end`; waits while the database does not answer."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        fence = _fence(ending)
        self._entries[fence] = Entry(ending, told, attempt=True)
        self._wake()
        try:
            return await told
        except asyncio.CancelledError:
            self._entries.pop(fence, None)
            self._on_their_way.discard(fence)
            raise

    def fail(self, fence: Fence, error: str) -> None:
        """Write a failure that nobody waits for."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        told.add_done_callback(_say_if_refused)
        failed = Failed(task_id=fence.task_id, attempt=fence.attempt, error=error, retryable=True)
        self._entries[fence] = Entry(failed, told, attempt=False)
        self._wake()

    def gone(self, fence: Fence) -> None:
        """An attempt's process and files are gone too."""
        self._left.discard(fence)

    @contextmanager
    def batch(self, most: int) -> Generator[Batch]:
        """The next to be written; what is not told by the end of it waits for the next time."""
        unsent = (item for item in self._entries.items() if item[0] not in self._on_their_way)
        entries = dict(islice(unsent, most))
        self._on_their_way |= entries.keys()
        try:
            yield Batch(self._store, tuple(entries.values()))
        finally:
            self._on_their_way -= entries.keys()
            for fence, entry in entries.items():
                if entry.told.done() and self._entries.get(fence) is entry:
                    del self._entries[fence]
                    self._count(entry)
                    if entry.attempt:
                        self._left.add(fence)

    def _count(self, entry: Entry) -> None:
        if not entry.told.cancelled() and entry.told.exception() is None:
            self._ended(entry.ending, entry.told.result())


def _fence(ending: Ending) -> Fence:
    return Fence(ending.task_id, ending.attempt)


def _set(told: asyncio.Future[bool], kept: bool) -> None:
    if not told.done():
        told.set_result(kept)


def _say_if_refused(told: asyncio.Future[bool]) -> None:
    if not told.cancelled() and (error := told.exception()) is not None:
        log.error("failure refused", extra={"action": "fail_refused", "reason": str(error)})
