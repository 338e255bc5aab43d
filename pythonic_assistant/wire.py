"""The bytes between worker and runner: one request line in, one JSON line for each event out.

While code runs, a line out may also ask for a tool, and a line in then answers it.

Pydantic reads them, because a line may come from a process that is being killed, or from a newer version.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.event import Event
from pythonic_assistant.domain.task import RunRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which model a runner shall use, and how to reach it.

    Attributes:
        api_key: empty where the server wants none.
        base_url: None for the vendor's own address.
        code_format: auto, custom, function or fence.
    """

    model: str
    api_key: str = ""
    base_url: str | None = None
    code_format: Literal["auto", "custom", "function", "fence"] = "auto"

    def __repr__(self) -> str:
        return f"ModelConfig(model={self.model!r}, base_url={self.base_url!r}, api_key=…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressGrant:
    """Where a runner hands over the listening socket of its session, and the word that it is entitled to.

    Attributes:
        socket: of the worker's broker.
        token: of this attempt alone.
        certificate: PEM of the authority that the session shall trust.
    """

    socket: Path
    token: str
    certificate: str

    def __repr__(self) -> str:
        return f"EgressGrant(socket={str(self.socket)!r}, token=…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAsked:
    """A line from the runner to the worker: code wants this tool called. Answered by the same `id`."""

    id: int
    tool: str
    arguments: dict[str, Any]
    place: Place = field(default_factory=Place)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswered:
    """A line from the worker to the runner, after the order: a JSON value, or why there is none."""

    id: int
    value: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """What the worker writes to a runner: the request and the means.

    Attributes:
        model: None while none is configured; then only the scripted demo can answer.
        sandbox_socket: where the worker's zygote listens.
        outbox: folder for artifacts.
        egress: None while code may reach nothing.
        packages: the folder of additional packages of this installation, if there is one.
    """

    request: RunRequest
    model: ModelConfig | None
    sandbox_socket: Path
    outbox: Path
    egress: EgressGrant | None = None
    packages: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedEvent:
    """An event with the moment in which it happened."""

    at: datetime
    event: Event


_orders: TypeAdapter[RunOrder] = TypeAdapter(RunOrder)
_events: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])
_timed: TypeAdapter[datetime] = TypeAdapter(datetime)

LONGEST_LINE = 8 << 20
"""Bytes of one line; an event is far smaller, because outputs are cut before they become events."""


def write_order(order: RunOrder) -> bytes:
    """One line."""
    return _orders.dump_json(order) + b"\n"


def read_order(line: bytes) -> RunOrder:
    """Read a request line.

    Raises:
        InvalidInputError: it is not one.
    """
    try:
        return _orders.validate_json(line)
    except ValidationError as error:
        raise InvalidInputError(f"The runner could not read its request: {_first(error)}") from error


def write_event(timed: TimedEvent) -> bytes:
    """One line."""
    row = {"at": timed.at.isoformat(), "event": storable(_events.dump_python(timed.event, mode="python"))}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


_lines: TypeAdapter[Any] = TypeAdapter(dict[str, Any])
_asks: TypeAdapter[ToolAsked] = TypeAdapter(ToolAsked)
_answers: TypeAdapter[ToolAnswered] = TypeAdapter(ToolAnswered)


def read_from_runner(line: bytes) -> TimedEvent | ToolAsked:
    """Read a line of a runner's output: an event, or a tool that is asked for.

    Raises:
        InvalidInputError: it is neither.
    """
    try:
        row = _lines.validate_json(line)
        return _asks.validate_python(row["ask"]) if "ask" in row else _timed_event(row)
    except ValidationError as error:
        raise InvalidInputError(
            f"The runner wrote a line that is no event and asks for no tool: {_first(error)}"
        ) from error


def _timed_event(row: dict[str, Any]) -> TimedEvent:
    return TimedEvent(
        at=_timed.validate_python(row.get("at")), event=_events.validate_python(row.get("event"))
    )


def write_ask(asked: ToolAsked) -> bytes:
    """One line, from the runner to the worker."""
    row = {"id": asked.id, "tool": asked.tool, "arguments": asked.arguments, "place": asdict(asked.place)}
    return _line({"ask": row})


def write_answer(answered: ToolAnswered) -> bytes:
    """One line, from the worker to the runner."""
    return _line({"answer": {"id": answered.id, "value": answered.value, "error": answered.error}})


def read_answer(line: bytes) -> ToolAnswered:
    """Read an answer's line.

    Raises:
        InvalidInputError: it is not one.
    """
    try:
        return _answers.validate_python(_lines.validate_json(line).get("answer"))
    except ValidationError as error:
        raise InvalidInputError(f"The worker wrote a line that is no answer: {_first(error)}") from error


def _line(row: dict[str, Any]) -> bytes:
    return (
        json.dumps(storable(row), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    )


def fields_of(event: Event) -> dict[str, Any]:
    """The event's own fields as JSON values, without its kind."""
    fields: dict[str, Any] = storable(_events.dump_python(event, mode="python"))
    del fields["kind"]
    return fields


def storable(value: Any) -> Any:
    """Replace what neither UTF-8 nor PostgreSQL's jsonb can hold: lone surrogates and the NUL character."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (list, tuple)):
        return [storable(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the line'}: {first['msg']}"
