"""What an attempt leaves: artifacts and variables, stored unless they hold the value of a secret."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pythonic_assistant.adapters.store.naming import storage_name
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.event import ArtifactSaved, Noted, VariableSaved
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.secret import BoundSecret
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.ports import FileStore
from pythonic_assistant.wire import TimedEvent
from worker.relay import Relay
from worker.searching import secrets_in

LONGEST_NAME: Final = 500
"""Of an artifact, in characters; the table takes no longer one."""
ENDINGS: Final = {
    "application/vnd.apache.parquet": "parquet",
    "application/x-npy": "npy",
    "application/json": "json",
    "image/png": "png",
}
"""Of the files in which variables are kept."""

Persist = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Repeats a write until Storage takes or refuses it."""


class Keeping:
    """Uploads files and tells of each.

    Args:
        outbox: the only folder from which files are taken.
        secrets: that the session had; a file that holds the value of one is not kept.
    """

    def __init__(
        self,
        task: ClaimedTask,
        *,
        outbox: Path,
        files: FileStore,
        relay: Relay,
        persist: Persist,
        secrets: Sequence[BoundSecret] = (),
    ) -> None:
        self._task = task
        self._outbox = outbox
        self._files = files
        self._relay = relay
        self._persist = persist
        self._secrets = secrets
        self._redactor = Redactor({secret.value: secret.placeholder for secret in secrets})

    async def artifact(self, timed: TimedEvent, event: ArtifactSaved) -> None:
        """Keep a file that the task left.

        Raises:
            InvalidInputError: it is outside of the outbox.
        """
        name = self._redactor.text(event.name)
        if len(name) > LONGEST_NAME:
            self._warn(f"{name[:100]}… was not stored: its path is longer than {LONGEST_NAME} characters.")
            return
        # Of this attempt alone: one that lost its lease writes nothing that another's row points to.
        storage_path = f"{self._task.user_id}/tasks/{self._task.id}/{self._task.attempt}/{storage_name(name)}"
        timed = TimedEvent(at=timed.at, event=replace(event, name=name))
        await self._keep(timed, name, Path(event.path), storage_path, event.media_type)

    async def variable(self, timed: TimedEvent, event: VariableSaved) -> None:
        """Keep a variable for later tasks of the thread; a task of no thread has none.

        Raises:
            InvalidInputError: it is outside of the outbox, or is no variable's file.
        """
        if self._task.thread_id is None:
            return
        ending = ENDINGS.get(event.media_type)
        if ending is None or not event.name.isidentifier():
            raise InvalidInputError(f"The runner saved {event.name[:100]!r} in a way that is not known.")
        name = storage_name(f"{event.name}.{ending}")
        attempt = f"{self._task.id}-{self._task.attempt}"
        storage_path = f"{self._task.user_id}/variables/{self._task.thread_id}/{attempt}/{name}"
        await self._keep(
            timed, f"The variable {event.name}", Path(event.path), storage_path, event.media_type
        )

    async def _keep(
        self, timed: TimedEvent, name: str, path: Path, storage_path: str, media_type: str
    ) -> None:
        if not path.resolve().is_relative_to(self._outbox.resolve()):
            raise InvalidInputError(f"{name[:200]} is outside of the run's folder.")
        found = await asyncio.to_thread(secrets_in, path, self._secrets)
        if found.names:
            self._warn(
                f"{name[:200]} was not stored: it holds the value of {' and '.join(found.names)}. Leave the "
                "value out of what the task writes."
            )
            return
        try:
            await self._persist(lambda: self._files.upload(path, storage_path, media_type))
        except InvalidInputError as error:
            self._warn(f"{name[:200]} could not be stored: {error}")
            return
        if found.unseen:
            self._warn(
                f"{name[:200]} was stored, but could not be looked through for secrets as a whole: it has "
                f"{' and '.join(found.unseen)}. Look into it before you pass it on."
            )
        self._relay.put(timed, {"storage_path": storage_path, "path": None})

    def _warn(self, text: str) -> None:
        self._relay.put(TimedEvent(at=datetime.now(UTC), event=Noted(text=text, level="warning")))
