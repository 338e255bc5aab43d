"""Actions outside of our own tables: what is done, where in a run, and what the ledger says about it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pythonic_assistant.domain.tool import Risk

_PLACEHOLDER: Final = re.compile(r"PLACEHOLDER_([A-Z][A-Z0-9_]{0,63})_[0-9a-f]{16}")
"""As `secret.placeholder_of` draws them: each attempt has others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The execution in which code acts.

    Attributes:
        step_id: the step whose code it is.
        execution: counts from 1 within the step.
        rerun: the code has run before and is only rebuilt: it gets what was recorded, and does nothing new.
        items: how long the conversation was by then; it has to be stored before anything is done outside.
        serial: another one for each execution, so that the how-manyth same action can be counted.
    """

    step_id: str = ""
    execution: int = 0
    rerun: bool = False
    items: int = 0
    serial: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that is about to be done outside.

    Attributes:
        name: the tool, or method, host and path.
        digest: of name and canonical arguments; see `digest_of`.
        request: what is done, for the ledger.
        preview: the same for a person who decides, complete and legible.
        standing: the narrowest rule that would allow it for good, or None.
        idempotency_key: one that the code chose; None to be given one.
        repeatable: the other side knows the key, so sending again settles an unknown outcome.
        question: what a person is asked, when that is all it is.
    """

    kind: Literal["tool", "request"]
    name: str
    digest: str
    risk: Risk
    request: Mapping[str, Any]
    preview: Mapping[str, Any]
    standing: Mapping[str, Any] | None = None
    idempotency_key: str | None = None
    repeatable: bool = False
    question: str | None = None
    choices: Sequence[Any] = field(default=())


@dataclass(frozen=True, slots=True)
class Go:
    """Do it, and tell the outcome under `key`."""

    key: str
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Done:
    """It was done before: this came of it. `error` says why there is no result."""

    succeeded: bool
    result: Any
    error: str | None


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """It must not be done; `why` is for the code."""

    why: str


Begun = Go | Done | NotAllowed
Look = Callable[[str], Awaitable[tuple[bool | None, Any]]]
"""Looks whether an action of this idempotency key happened: yes, no, or cannot tell; and what came of it."""
Outcome = Literal["succeeded", "failed", "unknown"]
"""failed: known not to have happened."""


def canonical(value: Any) -> str:
    """Write a JSON value so that equal values are equal texts."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def nameless(text: str) -> str:
    """Put the names of secrets where placeholders are, which are others in each attempt."""
    return _PLACEHOLDER.sub(r"{\1}", text)


def without_placeholders(value: Any) -> Any:
    """As `nameless`, for every text of a JSON value."""
    if isinstance(value, str):
        return nameless(value)
    if isinstance(value, Mapping):
        return {nameless(str(key)): without_placeholders(item) for key, item in value.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, (list, tuple)):
        return [without_placeholders(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def digest_of(kind: str, name: str, *parts: bytes) -> str:
    """SHA-256 of what is done, in hex. Each part has its length in front, so that none can pass for two."""
    digest = hashlib.sha256()
    for part in (kind.encode(), name.encode(), *parts):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def key_of(place: Place, digest: str, ordinal: int) -> str:
    """Name an effect within its task.

    The execution is not part of it: a fix of the same step meets what the code before it did.
    """
    return f"{place.step_id[:100]}/{digest}/{ordinal}"
