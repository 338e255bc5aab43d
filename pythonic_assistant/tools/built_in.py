"""The tools that every installation has, as code and model see them; the worker runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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

ASK_PERSON: Final = ToolSpec(
    name="ask_person",
    description=(
        "Asks the person whose task this is, when only they can know. The task waits for the answer, for "
        "days if need be, and then goes on with it. Ask once, for all that is needed."
    ),
    parameters={
        "type": "object",
        "properties": {
            "question": {
                "type": "string",
                "minLength": 1,
                "maxLength": 4000,
                "description": "what is to be decided, with all that is needed to decide it",
            },
            "choices": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 500},
                "maxItems": 20,
                "uniqueItems": True,
                "default": [],
                "description": "the answers to choose from; none for an answer in words",
            },
        },
        "required": ["question"],
        "additionalProperties": False,
    },
    returns="the answer, a str",
)

BUILT_IN: Final[Mapping[str, ToolSpec]] = {
    tool.name: tool for tool in (EARLIER_TASKS, THREAD_FILES, ASK_PERSON)
}
