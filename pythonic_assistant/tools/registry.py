"""Tools with their schemas held: what a schema refuses never runs, whoever asks.

Both ends check: the runner, because a refusal there costs no way to the worker, and the worker, because it
believes no runner.
"""

from __future__ import annotations

import asyncio
import json
import keyword
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

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
Acting = Callable[[C, Mapping[str, Any], str], Awaitable[Any]]
"""The same of a tool that changes something; it also gets the idempotency key."""
Reconcile = Callable[[C, Mapping[str, Any], str], Awaitable["Reconciled"]]
Preview = Callable[[C, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a look at the other side has shown; `happened` is None when it cannot be told."""

    happened: bool | None
    result: Any = None


MOST_ARGUMENT_BYTES: Final = 1 << 20
MOST_RESULT_BYTES: Final = 4 << 20
"""Both as JSON, and well below the longest line between worker and runner."""
MOST_DEPTH: Final = 50
"""Lists and objects in each other: well below what any reader of JSON on the way takes."""
CALL_SECONDS: Final = 60.0


class CheckedToolbox:
    """A `ports.Toolbox` that lets only what fits through, in both directions."""

    def __init__(
        self, specs: Sequence[ToolSpec], call: Call, *, seconds: float | None = CALL_SECONDS
    ) -> None:
        """Hold the tools' schemas.

        Args:
            call: runs a tool whose arguments have passed; its `AssistantError` becomes a `ToolError`.
            seconds: after which a call has failed; None for no deadline.

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
            raise ToolError(f"The tool {name} gave no result within {self._seconds} seconds.") from error
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


@dataclass(frozen=True, kw_only=True)  # no slots: they and Generic do not go together
class Tool(Generic[C]):
    """A tool with its code.

    One that only reads has `run`. One that changes something has `act`, which also gets an idempotency key
    for the other side, and is called by the ledger alone. A `ToolError` of it says that nothing has happened;
    after any other error nobody knows.

    Attributes:
        reconcile: looks whether an action of unknown outcome happened.
        preview: shows what would be done, where arguments do not say it by themselves: see `preview_of`.
        asks: the tool is a question to the person (`question`, `choices`), and the answer its result.
    """

    spec: ToolSpec
    run: Implementation[C] | None = None
    act: Acting[C] | None = None
    reconcile: Reconcile[C] | None = None
    preview: Preview[C] | None = None
    asks: bool = False


class Performer(Protocol[C]):
    """Does what is not only reading: each action once. See `worker.performing`."""

    async def perform(self, tool: Tool[C], context: C, arguments: Mapping[str, Any]) -> Any:
        """Act, or give back what came of it before.

        Raises:
            ToolError: why there is no result.
        """
        ...


def toolbox_of(
    tools: Sequence[Tool[C]],
    context: C,
    performer: Performer[C] | None = None,
    *,
    seconds: float = CALL_SECONDS,
) -> CheckedToolbox:
    """Make a toolbox of code in this process.

    Args:
        context: handed to each tool: for whom it works.
        performer: for tools that do more than read; no such tool is called without.
        seconds: after which reading has failed. Actions have their deadline from the performer.

    Raises:
        InvalidInputError: a tool has not the code that its risk asks for, or nobody performs it, or as
            `CheckedToolbox`.
    """
    by_name = {tool.spec.name: tool for tool in tools}
    for tool in tools:
        _ensure_whole(tool, performed=performer is not None)

    async def call(name: str, arguments: Mapping[str, Any]) -> Any:
        tool = by_name[name]
        if tool.run is not None:
            try:
                async with asyncio.timeout(seconds):
                    return await tool.run(context, arguments)
            except TimeoutError as error:
                raise ToolError(f"The tool {name} gave no result within {seconds:g} seconds.") from error
        assert performer is not None
        return await performer.perform(tool, context, arguments)

    return CheckedToolbox([tool.spec for tool in tools], call, seconds=None)


def _ensure_whole(tool: Tool[Any], *, performed: bool) -> None:
    name = tool.spec.name
    if tool.run is not None and (tool.act is not None or tool.asks or tool.spec.risk != "read"):
        raise InvalidInputError(f"The tool {name!r} does more than read, so it needs act, not run.")
    if tool.run is None and not tool.asks and (tool.act is None or tool.spec.risk == "read"):
        raise InvalidInputError(f"The tool {name!r} has no code here that fits its risk {tool.spec.risk}.")
    if tool.run is None and not performed:
        raise InvalidInputError(f"The tool {name!r} does more than read, and nobody here keeps the ledger.")
    missing = [
        part for part in tool.spec.recipients if part not in tool.spec.parameters.get("properties", {})
    ]
    if missing:
        raise InvalidInputError(
            f"The tool {name!r} has no argument {missing[0]!r} that could name a recipient."
        )


def as_json(value: Any, what: str) -> Any:
    """Return a result as JSON gives it back.

    Raises:
        ToolError: it is no JSON value, too large or too deep.
    """
    return _json(value, MOST_RESULT_BYTES, what)


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
