"""A tool's JSON schema as a Python signature and a docstring, so that `help` shows how to call it."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Mapping
from typing import Any, Literal, cast

_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def signature(parameters: Mapping[str, Any]) -> inspect.Signature:
    """Return the signature: required properties first, then the others, each by place or by name.

    A property whose name is no Python name can be given as `**{"the-name": value}`.

    Args:
        parameters: a JSON Schema of type object.
    """
    properties = _mapping(parameters.get("properties"))
    required = [str(name) for name in parameters.get("required") or ()]
    found: list[inspect.Parameter] = []
    odd = False
    for name in [n for n in properties if n in required] + [n for n in properties if n not in required]:
        if not name.isidentifier() or keyword.iskeyword(name):
            odd = True
            continue
        schema = _mapping(properties[name])
        needed = name in required
        found.append(
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=inspect.Parameter.empty if needed else schema.get("default"),
                annotation=_annotation(schema),
            )
        )
    if odd or not properties or _mapping(parameters.get("patternProperties")):
        found.append(inspect.Parameter("more", inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(found)


def document(description: str, parameters: Mapping[str, Any], returns: str) -> str:
    """Return the docstring."""
    lines = [description.strip(), ""]
    described = {
        name: str(_mapping(schema)["description"]).strip()
        for name, schema in _mapping(parameters.get("properties")).items()
        if "description" in _mapping(schema)
    }
    if described:
        lines += ["Args:", *(f"    {name}: {text}" for name, text in described.items()), ""]
    lines += ["Returns:", f"    {returns}", "", "Raises:"]
    return "\n".join([*lines, "    tools.ToolError: the tool refused its arguments, or failed."])


def _annotation(schema: Mapping[str, Any]) -> Any:
    values = schema.get("enum")
    if (
        isinstance(values, list)
        and values
        and all(isinstance(v, str | int) for v in cast("list[Any]", values))
    ):
        return Literal[tuple(cast("list[Any]", values))]
    kinds = schema.get("type")
    names = [str(name) for name in (cast("list[Any]", kinds) if isinstance(kinds, list) else [kinds])]
    if not names or any(name not in _TYPES for name in names):
        return Any
    found = _TYPES[names[0]]
    for name in names[1:]:
        found = found | _TYPES[name]
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
