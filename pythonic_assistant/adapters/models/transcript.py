"""The conversation as input items of the Responses API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pythonic_assistant.adapters.models.codecs import call_ids, result_item
from pythonic_assistant.adapters.models.neutral import UNREAD_CALL, message_of
from pythonic_assistant.domain.conversation import CodeResult, Item, Reply


def input_items(
    items: Sequence[Item], *, model: str, verbatim: bool, official: bool
) -> list[Mapping[str, Any]]:
    """Write the conversation for the server.

    A reply of the same model is replayed verbatim and in order, as its server demands for reasoning; any
    other becomes text. Each replayed call gets exactly one result: a call that was never run is answered
    with a sentence that says so, because the server refuses open calls.

    Args:
        items: oldest first.
        model: whose `raw` items can be replayed.
        verbatim: False where the server has refused replayed items.
        official: OpenAI's own server, which takes reasoning back only in encrypted form.
    """
    written: list[Mapping[str, Any]] = []
    raw: tuple[Mapping[str, Any], ...] = ()
    pending: list[str] = []

    def answer_pending() -> None:
        written.extend(result_item(raw, call_id, UNREAD_CALL) for call_id in pending)
        pending.clear()

    for item in items:
        if isinstance(item, CodeResult) and item.call_id in pending:
            written.append(result_item(raw, item.call_id, item.text))
            pending.remove(item.call_id)
            continue
        answer_pending()
        if isinstance(item, Reply) and verbatim and _replayable(item, model=model, official=official):
            raw = item.raw
            written.extend(raw)
            pending.extend(call_ids(raw))
            continue
        message = message_of(item)
        written.append({"type": "message", "role": message.role, "content": message.text})
    answer_pending()
    return written


def replayed(items: Sequence[Item], *, model: str, official: bool) -> bool:
    """Whether any reply would be replayed verbatim."""
    return any(
        isinstance(item, Reply) and _replayable(item, model=model, official=official) for item in items
    )


def _replayable(reply: Reply, *, model: str, official: bool) -> bool:
    if not reply.raw or reply.model != model:
        return False
    # With store=false OpenAI knows a reasoning item only by its encrypted content, and answers 404 without.
    return not official or all(
        item.get("encrypted_content") for item in reply.raw if item.get("type") == "reasoning"
    )
