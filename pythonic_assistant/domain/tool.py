"""What generated code may call beyond Python: described for the model, granted to a task, run by the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Risk = Literal["read", "write", "irreversible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as code and model see it.

    Attributes:
        name: a Python identifier; the function's name in generated code.
        description: one sentence or a few; the function's docstring.
        parameters: a JSON Schema of type object, whose properties are the keyword arguments.
        returns: what comes back, in words.
        risk: read changes nothing; write can be undone; irreversible cannot.
        hosts: that code of a task with this tool may reach by itself.
        recipients: names of the arguments that say to whom it is done: a person may allow the tool for good
            for one recipient, and for nobody else.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    returns: str = "a JSON value"
    risk: Risk = "read"
    hosts: tuple[str, ...] = field(default=())
    recipients: tuple[str, ...] = field(default=())
