"""Read requests of either protocol into what a script hears."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from tests.servers.script import Heard, Turn


def heard_in_responses(body: Mapping[str, Any]) -> Heard:
    """Read a request to `/responses` that keeps to the rules."""
    items = body["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    turns: list[Turn] = []
    for item in items:
        match item.get("type", "message"):
            case "message":
                role: Literal["user", "assistant"] = "assistant" if item["role"] == "assistant" else "user"
                turns.append(_turn(role, _text(item["content"])))
            case "custom_tool_call":
                turns.append(Turn(role="assistant", text="", code=item["input"]))
            case "function_call":
                turns.append(Turn(role="assistant", text="", code=json.loads(item["arguments"])["code"]))
            case "custom_tool_call_output" | "function_call_output":
                turns.append(Turn(role="result", text=item["output"]))
            case _:
                continue
    form = body.get("text", {}).get("format", {})
    called = bool(body.get("tools")) and body.get("tool_choice", "auto") != "none"
    return Heard(
        model=body["model"],
        instructions=body.get("instructions", ""),
        turns=tuple(turns),
        wants=_wants(form.get("type"), turns, called=called),
        schema=form.get("schema"),
    )


def heard_in_chat(body: Mapping[str, Any]) -> Heard:
    """Read a request to `/chat/completions` that keeps to the rules."""
    messages = body["messages"]
    turns = [
        _turn(message["role"], message["content"]) for message in messages if message["role"] != "system"
    ]
    form = body.get("response_format", {})
    return Heard(
        model=body["model"],
        instructions="".join(message["content"] for message in messages if message["role"] == "system"),
        turns=tuple(turns),
        wants=_wants(form.get("type"), turns, called=False),
        schema=form.get("json_schema", {}).get("schema"),
    )


def _turn(role: Literal["user", "assistant"], text: str) -> Turn:
    words, fence, rest = text.partition("```python\n")
    if role == "assistant" and fence:
        return Turn(role=role, text=words.strip(), code=rest.rpartition("\n```")[0])
    return Turn(role=role, text=text)


def _text(content: str | list[Any]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _wants(form: str | None, turns: list[Turn], *, called: bool) -> Literal["code", "json", "text"]:
    """What a reader would say is wanted: by the fields of the request, else by its last words."""
    last = turns[-1].text if turns else ""
    if form in ("json_schema", "json_object") or "one JSON object and nothing else" in last:
        return "json"
    if called or "```python" in last:
        return "code"
    return "text"
