"""Event rules: what happens by itself when a task's state changes. The database checks what people write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pythonic_assistant.domain.errors import InvalidInputError

ACTIONS: Final = ("webhook", "email", "task")
STATES: Final = ("scheduled", "held", "queued", "running", "waiting", "succeeded", "failed", "cancelled")
VERDICTS: Final = ("proven", "unverified", "refuted")
FIELDS: Final = ("prompt", "answer", "state", "task_id", "error")
"""What the prompt of a new task may name in braces."""
TRIES: Final = 15
"""After so many a delivery is a dead letter; `fail_delivery` in the migrations counts them."""
LONGEST_CHAIN: Final = 3
"""Tasks that rules start one from the other."""

_PIECE: Final = re.compile(r"\{\{|\}\}|\{(" + "|".join(FIELDS) + r")\}|[{}]")


def rendered(template: str, values: Mapping[str, object]) -> str:
    """Put values into the prompt of a new task; what stands in a value is never taken for a field.

    Args:
        template: with fields such as `{answer}`; `{{` and `}}` stand for braces.
        values: by the names of `FIELDS`; one that is missing or None leaves nothing.

    Raises:
        InvalidInputError: it names another field, or has a brace by itself.
    """

    def piece(found: re.Match[str]) -> str:
        text, name = found.group(), found.group(1)
        if text in ("{{", "}}"):
            return text[0]
        if name is None:
            fields = ", ".join(f"{{{field}}}" for field in FIELDS)
            near = template[found.start() : found.start() + 40]
            raise InvalidInputError(
                f"The prompt of the new task has {near!r} in it; the fields are {fields}. "
                "For a brace itself write {{ or }}."
            )
        value = values.get(name)
        return "" if value is None else str(value)

    return _PIECE.sub(piece, template)
