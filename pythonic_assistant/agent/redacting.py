"""Keeps secrets that code holds in the clear out of all that leaves its session.

There are two gates. What a session gives back is cleaned here before anything is shortened, because half of a
value would not be recognised any more. What goes to the model or becomes an event passes a second gate
(`clean_event`, `Dialogue.add`), so that a way that somebody adds later is closed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.task import RunRequest
from pythonic_assistant.domain.variable import SavedVariable, UnsavedVariable
from pythonic_assistant.ports import OnOutput, SandboxSession

T = TypeVar("T")
_LEFT_OUT = "…"
"""Where the sandbox shortens a description, it puts this in place of the rest."""


def redactor_of(request: RunRequest) -> Redactor:
    """Make a redactor for the secrets that the request gives in the clear."""
    return Redactor(
        {request.environment[name]: f"[{name}]" for name in request.raw if name in request.environment}
    )


def clean(redactor: Redactor, value: T) -> T:
    """Return a value, or a frozen dataclass with all its parts, with every text in it cleaned."""
    return cast("T", _cleaned(redactor, value)) if redactor else value


def _cleaned(redactor: Redactor, value: Any) -> Any:
    if isinstance(value, str):
        return redactor.text(value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: getattr(value, part.name) for part in fields(value)}
        return replace(value, **{name: _cleaned(redactor, part) for name, part in parts.items()})
    if isinstance(value, Mapping):
        rows = cast("Mapping[Any, Any]", value)
        return {_cleaned(redactor, key): _cleaned(redactor, item) for key, item in rows.items()}
    if isinstance(value, tuple):
        return tuple(_cleaned(redactor, item) for item in cast("tuple[Any, ...]", value))
    if isinstance(value, list):
        return [_cleaned(redactor, item) for item in cast("list[Any]", value)]
    return value


class CleanSession:
    """A `ports.SandboxSession` whose results hold no secret."""

    def __init__(self, session: SandboxSession, redactor: Redactor) -> None:
        self._session = session
        self._redactor = redactor

    async def execute(
        self, code: str, *, timeout: float, on_output: OnOutput | None = None, checkpoint: bool = False
    ) -> Execution:
        """As the port; a value that comes in two pieces of output is found too."""
        pieces = _Pieces(self._redactor, on_output) if on_output is not None else None
        try:
            execution = await self._session.execute(
                code, timeout=timeout, on_output=pieces and pieces.take, checkpoint=checkpoint
            )
        finally:
            if pieces is not None:
                pieces.end()
        return replace(
            execution,
            stdout=self._text(execution.stdout, ended=not execution.truncated),
            stderr=self._text(execution.stderr, ended=not execution.truncated),
            value=self._text(execution.value),
            error=self._text(execution.error),
        )

    async def rollback(self) -> bool:
        """As the port."""
        return await self._session.rollback()

    async def save(self, into: Path) -> tuple[tuple[SavedVariable, ...], tuple[UnsavedVariable, ...]]:
        """As the port: the files are data of the person's, which are looked through before they are kept."""
        saved, unsaved = await self._session.save(into)
        return saved, clean(self._redactor, unsaved)

    async def restore(self) -> tuple[str, ...]:
        """As the port."""
        return await self._session.restore()

    async def variables(self) -> tuple[VariableInfo, ...]:
        """As the port."""
        return tuple(
            VariableInfo(
                name=self._text(variable.name),
                type=self._text(variable.type),
                summary=self._text(variable.summary),
            )
            for variable in await self._session.variables()
        )

    async def collect(self, into: Path) -> tuple[ArtifactFile, ...]:
        """As the port."""
        return await self._session.collect(into)

    @property
    def skipped(self) -> tuple[str, ...]:
        """As the port."""
        return clean(self._redactor, self._session.skipped)

    async def close(self) -> None:
        """As the port."""
        await self._session.close()

    def _text(self, text: str, *, ended: bool = True) -> str:
        """Clean a text; where it was shortened, the beginning of a value in front of the gap goes too."""
        *before, last = self._redactor.text(text).split(_LEFT_OUT)
        settled = self._redactor.settled
        parts = [part[: settled(part)] for part in before]
        return _LEFT_OUT.join([*parts, last if ended else last[: settled(last)]])


class _Pieces:
    """Cleans what arrives in pieces, each stream by itself."""

    def __init__(self, redactor: Redactor, on_output: OnOutput) -> None:
        self._redactor = redactor
        self._on_output = on_output
        self._held: dict[Literal["stdout", "stderr"], str] = {}

    def take(self, stream: Literal["stdout", "stderr"], text: str) -> None:
        text = self._held.get(stream, "") + text
        settled = self._redactor.settled(text)
        self._held[stream] = text[settled:]
        if settled:
            self._on_output(stream, self._redactor.text(text[:settled]))

    def end(self) -> None:
        """Hand on what waited for more."""
        for stream, text in self._held.items():
            if text:
                self._on_output(stream, self._redactor.text(text))
        self._held.clear()
