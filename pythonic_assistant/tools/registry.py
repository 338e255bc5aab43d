"""Tools with their schemas held: what a schema refuses never runs, whoever asks.

Both ends check: the runner, because a refusal there costs no way to the worker, and the worker, because it
believes no runner.
"""

from __future__ import annotations

import asyncio
import json
import keyword
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from pythonic_assistant.domain.errors import AssistantError, InvalidInputError, ToolError, ToolRefusedError
from pythonic_assistant.domain.tool import ToolSpec

Call = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Runs the tool of a name; what it gives back is a JSON value."""
C = TypeVar("C")
Implementation = Callable[[C, Mapping[str, Any]], Awaitable[Any]]
"""A tool's code: it gets whose task this is, and arguments that fit its schema, defaults filled in."""

MOST_ARGUMENT_BYTES: Final = 1 << 20
MOST_RESULT_BYTES: Final = 4 << 20
"""Both as JSON, and well below the longest line between worker and runner."""
MOST_DEPTH: Final = 50
"""Lists and objects in each other: well below what any reader of JSON on the way takes."""
CALL_SECONDS: Final = 60.0


class CheckedToolbox:
    """A `ports.Toolbox` that lets only what fits through, in both directions."""

    def __init__(self, specs: Sequence[ToolSpec], call: Call, *, seconds: float = CALL_SECONDS) -> None:
        """Hold the tools' schemas.

        Args:
            call: runs a tool whose arguments have passed; its `AssistantError` becomes a `ToolError`.
            seconds: after which a call has failed.

        Raises:
            InvalidInputError: a tool's name is no identifier or is there twice, or its schema is none.
        """
        self._specs = tuple(specs)
        self._call = call
        self._seconds = seconds
        self._validators: dict[str, Any] = {}
        for spec in self._specs:
            if spec.name in self._validators:
                raise InvalidInputError(f"There are two tools of the name {spec.name!r}.")
            self._validators[spec.name] = _validator(spec)

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """What there is."""
        return self._specs

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Check, call, and check what came back.

        Raises:
            ToolRefusedError: no such tool, or arguments that its schema refuses; says what to change.
            ToolError: why there is no result.
        """
        filled = self._fit(name, arguments)
        try:
            async with asyncio.timeout(self._seconds):
                value = await self._call(name, filled)
        except TimeoutError as error:
            raise ToolError(f"The tool {name} gave no result within {self._seconds:g} seconds.") from error
        except ToolError:
            raise
        except AssistantError as error:
            raise ToolError(f"The tool {name} failed: {error}") from error
        return _json(value, MOST_RESULT_BYTES, f"The result of the tool {name}")

    def _fit(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        validator = self._validators.get(name)
        if validator is None:
            there = ", ".join(self._validators) or "none"
            raise ToolRefusedError(f"There is no tool {name[:100]!r}; the tools of this task are: {there}.")
        try:
            plain: dict[str, Any] = _json(
                dict(arguments), MOST_ARGUMENT_BYTES, f"What was given to the tool {name}"
            )
        except ToolError as error:
            raise ToolRefusedError(str(error)) from error
        properties: Mapping[str, Any] = validator.schema.get("properties", {})
        for key, schema in properties.items():
            if key not in plain and "default" in schema:
                plain[key] = schema["default"]
        try:
            problem: Any = next(validator.iter_errors(plain), None)
        except Unresolvable as error:
            raise ToolRefusedError(
                f"The tool {name} cannot be called: its schema refers to what is not there."
            ) from error
        except RecursionError as error:
            raise ToolRefusedError(f"What was given to the tool {name} is nested too deeply.") from error
        if problem is not None:
            where = ".".join(str(part) for part in problem.absolute_path)
            place = f"{name}({where})" if where else name
            raise ToolRefusedError(f"The tool {place} refuses its arguments: {_short(str(problem.message))}.")
        return plain


def toolbox_of(
    specs: Sequence[ToolSpec], implementations: Mapping[str, Implementation[C]], context: C
) -> CheckedToolbox:
    """Make a toolbox of code in this process.

    Args:
        implementations: by the tools' names.
        context: handed to each of them: for whom it works.

    Raises:
        InvalidInputError: a tool has no implementation, or as `CheckedToolbox`.
    """
    for spec in specs:
        if spec.name not in implementations:
            raise InvalidInputError(f"The tool {spec.name!r} has no code here.")

    async def call(name: str, arguments: Mapping[str, Any]) -> Any:
        return await implementations[name](context, arguments)

    return CheckedToolbox(specs, call)


def _validator(spec: ToolSpec) -> Any:
    if not spec.name.isidentifier() or keyword.iskeyword(spec.name) or spec.name.startswith("_"):
        raise InvalidInputError(f"The tool {spec.name!r} cannot be called: its name is no Python name.")
    schema = dict(spec.parameters)
    if schema.get("type") != "object":
        raise InvalidInputError(f'The schema of the tool {spec.name!r} has to be of the type "object".')
    for name in schema.get("properties", {}):
        if not str(name).isidentifier() or keyword.iskeyword(name):
            raise InvalidInputError(
                f"The tool {spec.name!r} has an argument {name!r}, which is no Python name."
            )
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidInputError(
            f"The schema of the tool {spec.name!r} is none: {_short(error.message)}."
        ) from error
    # An empty registry: no `$ref` makes this process fetch anything.
    return Draft202012Validator(schema, registry=Registry())


def _json(value: Any, most: int, what: str) -> Any:
    """Return the value as JSON gives it back, so that nothing that JSON lacks gets any further."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"{what} is no JSON value: {_short(str(error))}.") from error
    if len(text) > most:
        raise ToolError(f"{what} has {len(text):,} bytes as JSON; at most {most:,} are allowed.")
    plain = json.loads(text)
    if _is_deeper(plain, MOST_DEPTH):
        raise ToolError(f"{what} is nested more than {MOST_DEPTH} deep.")
    return plain


def _is_deeper(value: Any, most: int) -> bool:
    level: list[Any] = [value]
    for _ in range(most + 1):
        level = [
            item
            for part in level
            if isinstance(part, (dict, list))
            for item in (part.values() if isinstance(part, dict) else part)  # pyright: ignore[reportUnknownVariableType]
        ]
        if not level:
            return False
    return True


def _short(text: str) -> str:
    """Keep beginning and end: a refused value stands in front of what is wrong with it."""
    return (text if len(text) <= 300 else f"{text[:100]} … {text[-200:]}").rstrip(".")
