"""Three forms in which a model hands over code through the Responses API, behind one interface.

`custom` is raw text in a custom tool, which only OpenAI's own server speaks reliably. `function` is JSON in
a function tool, which other servers of the Responses API speak. `fence` is a block in the text: every model
on every server can do it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from pythonic_assistant.adapters.models.fenced import bare_code, loads_leniently, split_code, without_thoughts
from pythonic_assistant.adapters.models.json_values import as_list, as_mapping, as_text

CodeFormat = Literal["custom", "function", "fence"]

TOOL_NAME = "python"
_DESCRIPTION = (
    "Run Python in the session of this task. Variables live on from one call to the next. "
    "What the code prints comes back."
)
_OUTPUT_TYPES = {"custom_tool_call": "custom_tool_call_output", "function_call": "function_call_output"}


class Codec(Protocol):
    """One way of asking for code. Reading is the same for all, because servers answer in other forms too."""

    @property
    def name(self) -> CodeFormat:
        """The name of the format in settings."""
        ...

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """Tools to declare; none for a format that needs none."""
        ...

    @property
    def hint(self) -> str:
        """What to say to the model at the end of a request for code; empty where the tool says it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomCodec:
    """A custom tool: the model writes code as it is, without escapes."""

    name: CodeFormat = "custom"
    tools: tuple[Mapping[str, Any], ...] = (
        {
            "type": "custom",
            "name": TOOL_NAME,
            "description": f"{_DESCRIPTION} The input is Python source, not JSON, without a Markdown fence.",
        },
    )
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCodec:
    """A function tool: the model writes code as a JSON string."""

    name: CodeFormat = "function"
    tools: tuple[Mapping[str, Any], ...] = (
        {
            "type": "function",
            "name": TOOL_NAME,
            "description": _DESCRIPTION,
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"code": {"type": "string", "description": "Python source."}},
                "required": ["code"],
                "additionalProperties": False,
            },
        },
    )
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceCodec:
    """No tool: the model writes one fenced block into its text."""

    name: CodeFormat = "fence"
    tools: tuple[Mapping[str, Any], ...] = ()
    hint: str = (
        "Reply with one or two sentences and then exactly one fenced block that begins with ```python and "
        "holds all the code to run now."
    )


CODECS: Mapping[CodeFormat, Codec] = {
    "custom": CustomCodec(),
    "function": FunctionCodec(),
    "fence": FenceCodec(),
}
NEXT_FORMAT: Mapping[CodeFormat, CodeFormat] = {"custom": "function", "function": "fence"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRead:
    """What a list of output items says.

    Attributes:
        text: the words, without code.
        code: the code, or None.
        call_id: of the call that holds the code; None for fenced code.
        refusal: the words with which the model declined, or "".
        unreadable: a call was there, but its arguments could not be read.
    """

    text: str
    code: str | None = None
    call_id: str | None = None
    refusal: str = ""
    unreadable: bool = False


def read_output(output: Sequence[object], *, code_wanted: bool) -> OutputRead:
    """Read output items of the Responses API: words, and the code of the first call or else of a fence."""
    words: list[str] = []
    refusals: list[str] = []
    code: str | None = None
    call_id: str | None = None
    unreadable = False
    for item in map(as_mapping, output):
        kind = item.get("type")
        if kind == "message":
            for part in map(as_mapping, as_list(item.get("content"))):
                words.append(as_text(part.get("text")))
                refusals.append(as_text(part.get("refusal")))
        elif kind in _OUTPUT_TYPES and code is None:
            found = call_code(item)
            unreadable = unreadable or found is None
            if found is not None and found.strip():
                code, call_id = found, as_text(item.get("call_id")) or None
    text = without_thoughts("\n\n".join(word for word in words if word.strip())).strip()
    if code is None and code_wanted:
        text, code = split_code(text)
    refusal = "" if code or text else " ".join(filter(None, refusals))
    return OutputRead(
        text=text, code=code, call_id=call_id, refusal=refusal, unreadable=unreadable and code is None
    )


def call_code(call: Mapping[str, Any]) -> str | None:
    """The code in a custom or function call, or None when its arguments cannot be read."""
    if call.get("type") == "custom_tool_call":
        return _unwrapped(as_text(call.get("input")))
    return _code_in(call.get("arguments"))


def call_ids(raw: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of all calls among output items, in order; each of them needs a result when replayed."""
    return [
        as_text(item.get("call_id"))
        for item in raw
        if item.get("type") in _OUTPUT_TYPES and item.get("call_id")
    ]


def result_item(raw: Sequence[Mapping[str, Any]], call_id: str, text: str) -> Mapping[str, Any]:
    """The input item that answers a call among output items.

    Raises:
        KeyError: no call has this id.
    """
    for item in raw:
        if item.get("call_id") == call_id and item.get("type") in _OUTPUT_TYPES:
            return {"type": _OUTPUT_TYPES[str(item["type"])], "call_id": call_id, "output": text}
    raise KeyError(call_id)


def _unwrapped(text: str) -> str:
    """Raw code, also where a server or a model wrapped it into the JSON of a function call."""
    stripped = text.strip()
    if stripped.startswith("{") and stripped.endswith("}"):
        value = as_mapping(loads_leniently(stripped))
        if set(value) in ({"code"}, {"input"}):
            return bare_code(as_text(next(iter(value.values()))))
    return bare_code(text)


def _code_in(arguments: object) -> str | None:
    """Code in the arguments of a function call: an object, JSON, JSON in JSON, a Python literal, or bare."""
    if isinstance(arguments, Mapping):
        values = as_mapping(cast("object", arguments))
        for key in ("code", "input", "python", "source", "script"):
            if isinstance(values.get(key), str):
                return bare_code(str(values[key]))
        return None
    text = as_text(arguments).strip()
    value = loads_leniently(text)
    if isinstance(value, str):
        return _code_in(as_mapping(loads_leniently(value))) or bare_code(value)
    if isinstance(value, Mapping):
        return _code_in(cast("object", value))
    if not text.startswith("{"):
        return bare_code(text) or None
    try:
        literal: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return _code_in(cast("object", literal)) if isinstance(literal, Mapping) else None
