"""Tools as the model reads them: Python functions with types and a docstring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from pythonic_assistant.domain.tool import ToolSpec

_TYPES: Final = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
    "null": "None",
}


def stub_of(spec: ToolSpec) -> str:
    """Write a tool as a function without a body; what has to be given stands first."""
    properties: Mapping[str, Mapping[str, Any]] = spec.parameters.get("properties", {})
    required: Sequence[str] = spec.parameters.get("required", ())
    ordered = [*(name for name in required if name in properties)]
    ordered += [name for name in properties if name not in required]
    given = ", ".join(_argument(name, properties[name], name in required) for name in ordered)
    told = [
        f"    {name}: {_line(schema['description'])}"
        for name, schema in properties.items()
        if "description" in schema
    ]
    lines = [f"def {spec.name}({given}):", f'    """{_line(spec.description)}.']
    if told:
        lines += ["", *told]
    if spec.risk == "irreversible":
        lines += ["", "    It cannot be undone: a person is asked first."]
    lines += ["", f"    Returns {_line(spec.returns)}.", '    """']
    return "\n".join(lines)


def _argument(name: str, schema: Mapping[str, Any], required: bool) -> str:
    argument = f"{name}: {_type(schema)}"
    return argument if required else f"{argument} = {schema.get('default')!r}"


def _type(schema: Mapping[str, Any]) -> str:
    given: object = schema.get("type")
    names = cast("list[object]", given) if isinstance(given, list) else [given]
    return " | ".join(_TYPES.get(str(name), "object") for name in names)


def _line(text: object) -> str:
    """One line that cannot end the docstring."""
    return " ".join(str(text).split()).replace("\\", "/").replace(chr(34) * 3, "'''").rstrip(".")
