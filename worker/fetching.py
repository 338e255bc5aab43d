"""Files of a task on their way to the sandbox: those of the person, and variables of earlier tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from pythonic_assistant.adapters.store.naming import unique_names
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.event import Noted
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.task import ClaimedTask, StoredFile, StoredVariable
from pythonic_assistant.domain.variable import SavedVariable
from pythonic_assistant.ports import FileStore
from worker.keeping import ENDINGS


class Fetching:
    """Downloads a task's files into a folder.

    Args:
        warn: takes a sentence for the person.
        most_bytes: of one file.
    """

    def __init__(
        self,
        task: ClaimedTask,
        *,
        folder: Path,
        files: FileStore,
        warn: Callable[[Noted], None],
        most_bytes: int,
    ) -> None:
        self._task = task
        self._folder = folder
        self._files = files
        self._warn = warn
        self._most_bytes = most_bytes

    async def fetch(self) -> tuple[tuple[InputFile, ...], tuple[SavedVariable, ...]]:
        """Return all files for the session, and which of them are variables.

        Raises:
            StoreUnavailableError: Storage does not answer.
            InvalidInputError: a file of this task is gone, too large, or somebody else's.
        """
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        inputs, saved = self._task.inputs, [item for item in self._task.saved if item.media_type in ENDINGS]
        # The person's files come first and keep their names.
        names = unique_names(
            [file.name for file in inputs]
            + [f"saved_{item.name}.{ENDINGS[item.media_type]}" for item in saved]
        )
        files: list[InputFile] = []
        for stored, name in zip(inputs, names, strict=False):
            files += await self._input(stored, name)
        variables: list[SavedVariable] = []
        for stored, name in zip(saved, names[len(inputs) :], strict=True):
            file = await self._variable(stored, name)
            if file is not None:
                files.append(file)
                variables.append(
                    SavedVariable(
                        name=stored.name,
                        type=stored.type,
                        shape=stored.shape,
                        bytes=file.bytes,
                        media_type=stored.media_type,
                        load=stored.load,
                        path=Path("inputs") / name,
                    )
                )
        return tuple(files), tuple(variables)

    async def _input(self, stored: StoredFile, name: str) -> tuple[InputFile, ...]:
        try:
            return (await self._download(stored.storage_path, stored.name, name, stored.media_type),)
        except InvalidInputError:
            if not stored.earlier:
                raise
            text = f"{stored.name}, which came with an earlier task of the thread, is gone."
            self._warn(Noted(text=text, level="warning"))
            return ()

    async def _variable(self, stored: StoredVariable, name: str) -> InputFile | None:
        try:
            return await self._download(stored.storage_path, stored.name, name, stored.media_type)
        except InvalidInputError as error:
            text = f"The variable {stored.name} of an earlier task cannot be used: {error}"
            self._warn(Noted(text=text, level="warning"))
            return None

    async def _download(self, storage_path: str, shown: str, name: str, media_type: str) -> InputFile:
        if not storage_path.startswith(f"{self._task.user_id}/"):
            raise InvalidInputError(f"The file {shown} does not belong to the task's owner.")
        path = self._folder / name
        size = await self._files.download(storage_path, path, most_bytes=self._most_bytes)
        return InputFile(name=name, path=path, media_type=media_type, bytes=size)
