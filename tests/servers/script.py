"""What a scripted server knows of a request, and what it may answer: the same for every protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One entry of the conversation as the server received it.

    Attributes:
        role: "result" is what came back from a call; over protocols without calls it is a user's text.
        code: code of an assistant's call or fenced block.
    """

    role: Literal["user", "assistant", "result"]
    text: str
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A request, neutral between protocols.

    Attributes:
        wants: the form that was asked for.
        schema: of the wanted JSON, where the request holds one.
    """

    model: str
    instructions: str
    turns: Sequence[Turn]
    wants: Literal["code", "json", "text"]
    schema: Mapping[str, Any] | None = None

    @property
    def last(self) -> str:
        """All that the client said or gave back since the assistant's last reply."""
        since: list[str] = []
        for turn in reversed(self.turns):
            if turn.role == "assistant":
                break
            since.append(turn.text)
        return "\n\n".join(reversed(since))

    @property
    def everything(self) -> str:
        """All that the client said or gave back, without the assistant's own words."""
        return "\n".join(turn.text for turn in self.turns if turn.role != "assistant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Answer with code, in the form that the request allows."""

    code: str
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Answer with a JSON object."""

    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Answer with a text as it is, whatever was asked for."""

    text: str


Answer = Code | Data | Words
Script = Callable[[Heard], Answer]
"""Raises LookupError for a request that it has no answer to; the server then answers 400."""
