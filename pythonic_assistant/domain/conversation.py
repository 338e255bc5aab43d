"""The items that a model sees, in order: neutral between vendors, each vendor's own items kept verbatim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A text that a person, or the loop on a person's behalf, said to the model."""

    text: str
    kind: Literal["said"] = "said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a model answered.

    Attributes:
        text: the words of the reply, without its code.
        code: the Python of the reply, or None.
        call_id: the id that the result of the code must name, or None for fenced code.
        model: which model gave it; another model cannot read `raw`.
        raw: the vendor's output items, to be replayed verbatim and in order.
        about: what it was asked for, such as "code s1": where a new attempt looks whether it still fits.
    """

    text: str
    code: str | None = None
    call_id: str | None = None
    model: str = ""
    raw: tuple[Mapping[str, Any], ...] = field(default=())
    about: str = ""
    kind: Literal["reply"] = "reply"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeResult:
    """What came of the code of the `Reply` before it; `call_id` is that reply's."""

    text: str
    call_id: str | None = None
    succeeded: bool = False
    kind: Literal["code_result"] = "code_result"


Item = Said | Reply | CodeResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An item that an earlier attempt added; `data` is the JSON that a reply was read as."""

    item: Item
    data: Mapping[str, Any] | None = None
