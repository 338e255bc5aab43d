"""Ask for a reply in a given form, and once more with an explanation when the form was missed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from pythonic_assistant.adapters.models.fenced import object_in
from pythonic_assistant.adapters.models.json_values import as_list
from pythonic_assistant.adapters.models.refusals import excerpt
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Item, Reply, Said
from pythonic_assistant.domain.errors import ModelReplyError
from pythonic_assistant.ports import CodeWanted, JsonWanted, ModelReply, ModelRequest, TextWanted

Wanted = TextWanted | CodeWanted | JsonWanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of a server, before it is known whether it is what was asked for.

    Attributes:
        reply: what was read from it.
        usage: with `turns=1`.
        problem: what makes it useless whatever its content, such as a length limit; or "".
        declined: the words with which the model declined; or "".
    """

    reply: Reply
    usage: Usage
    problem: str = ""
    declined: str = ""


Ask = Callable[[Sequence[Item]], Awaitable[Answer]]
"""Sends the request with items after its own, and reads the answer."""


async def ask(request: ModelRequest, once: Ask, *, model: str) -> ModelReply:
    """Ask, and ask once more with an explanation when the reply is empty or unreadable.

    Returns:
        The usable reply, without notes. `usage` counts every answer that was paid for, so `turns` is 2
        when it took two.

    Raises:
        ModelReplyError: the second reply is no better, or the model declined.
    """
    usage = Usage()
    extra: tuple[Item, ...] = ()
    problem = ""
    for _ in range(2):
        answer = await once(extra)
        usage += answer.usage
        if answer.declined:
            raise ModelReplyError(f"The model {model} declined: {excerpt(answer.declined)}", usage=usage)
        data, problem = judged(answer, request.wanted)
        if not problem:
            return ModelReply(reply=answer.reply, data=data, usage=usage)
        # The useless reply is quoted as text: its calls, if any, were never run.
        extra = (
            Reply(text=answer.reply.text or "(nothing readable)"),
            Said(text=f"That reply could not be used: {problem}. {form_of(request.wanted)}"),
        )
    raise ModelReplyError(
        f"The model {model} did not give a usable reply, also when asked again: {problem}. "
        "Try again, or choose another model.",
        usage=usage,
    )


def judged(answer: Answer, wanted: Wanted) -> tuple[Mapping[str, Any] | None, str]:
    """Read the wanted form out of an answer.

    Returns:
        The JSON object where one was wanted, and what is wrong, or "".
    """
    reply = answer.reply
    if answer.problem:
        return None, answer.problem
    match wanted:
        case TextWanted():
            return None, "" if reply.text.strip() or reply.code else "it was empty"
        case CodeWanted():
            if reply.code and reply.code.strip():
                return None, ""
            quoted = f" (“{excerpt(reply.text)}”)" if reply.text else ""
            return None, f"it held no code{quoted}" if quoted else "it was empty"
        case JsonWanted():
            if not reply.text.strip():
                return None, "it was empty"
            data = object_in(reply.text)
            if data is None:
                return None, "it was not one JSON object"
            missing = [str(key) for key in as_list(wanted.schema.get("required")) if key not in data]
            return data, f"its JSON lacks {', '.join(missing)}" if missing else ""
        case _ as never:
            assert_never(never)


def form_of(wanted: Wanted) -> str:
    """Say which form is wanted, for models whose server cannot enforce it."""
    match wanted:
        case TextWanted():
            return "Reply in words."
        case CodeWanted():
            return (
                "Reply with Python: call the tool `python` if there is one, else write exactly one fenced "
                "block that begins with ```python."
            )
        case JsonWanted():
            schema = json.dumps(wanted.schema, ensure_ascii=False, sort_keys=True)
            return f"Reply with one JSON object and nothing else. It has to fit this JSON Schema: {schema}"
        case _ as never:
            assert_never(never)
