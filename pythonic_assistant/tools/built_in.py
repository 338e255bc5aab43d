"""The tools that every installation has, as code and model see them; the worker runs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.tool import ToolSpec

EARLIER_TASKS: Final = ToolSpec(
    name="earlier_tasks",
    description=(
        "Finds tasks that the same person gave before, the newest first; without words, the last ones."
    ),
    parameters={
        "type": "object",
        "properties": {
            "words": {
                "type": "string",
                "maxLength": 500,
                "default": "",
                "description": "what to look for in prompts and answers",
            },
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": 50,
                "default": 5,
                "description": "how many at most",
            },
        },
        "required": [],
        "additionalProperties": False,
    },
    returns="a list of dicts with id, asked, answer, verdict and finished_at (ISO 8601)",
)

THREAD_FILES: Final = ToolSpec(
    name="thread_files",
    description="Lists the files that earlier tasks of this conversation left.",
    parameters={"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    returns="a list of dicts with name, media_type, bytes and task_id",
)

BUILT_IN: Final[Mapping[str, ToolSpec]] = {tool.name: tool for tool in (EARLIER_TASKS, THREAD_FILES)}


def specs_of(names: Iterable[str]) -> tuple[ToolSpec, ...]:
    """Return the tools of these names, each once, in their order.

    Raises:
        InvalidInputError: there is no tool of a name.
    """
    wanted = tuple(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in BUILT_IN]
    if unknown:
        raise InvalidInputError(
            f"There is no tool {unknown[0][:100]!r}; the tools are {', '.join(BUILT_IN)}. "
            "Take the name out of the assistant's tools."
        )
    return tuple(BUILT_IN[name] for name in wanted)
