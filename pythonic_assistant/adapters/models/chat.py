"""Models over Chat Completions, without tools: fenced code and JSON in text, which every server can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pythonic_assistant.adapters.models.asking import Answer, ask, form_of
from pythonic_assistant.adapters.models.codecs import FenceCodec
from pythonic_assistant.adapters.models.connection import Connection
from pythonic_assistant.adapters.models.fenced import split_code, without_thoughts
from pythonic_assistant.adapters.models.json_values import as_count, as_list, as_mapping, as_text
from pythonic_assistant.adapters.models.neutral import message_of
from pythonic_assistant.adapters.models.refusals import RequestRefusedError
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Item, Reply, Said
from pythonic_assistant.domain.errors import ModelReplyError
from pythonic_assistant.ports import CodeWanted, JsonWanted, ModelReply, ModelRequest

JsonFormat = Literal["json_schema", "json_object", "plain"]
_NEXT_JSON: Mapping[JsonFormat, JsonFormat] = {"json_schema": "json_object", "json_object": "plain"}
_FORMAT_WORDS = ("response_format", "json_schema", "json_object", "format", "schema", "grammar")


class ChatModel:
    """A model behind `/chat/completions`.

    No tools, because newer OpenAI models refuse them here together with reasoning; no `max_tokens` and no
    `temperature`, because some models refuse them.
    """

    def __init__(self, connection: Connection, *, model: str) -> None:
        """Take over a connection, which `close` closes."""
        self._connection = connection
        self._model = model
        self._json: JsonFormat = "json_schema"

    @property
    def name(self) -> str:
        """The model's name as its server knows it."""
        return self._model

    @property
    def scripted(self) -> bool:
        """False: an AI answers."""
        return False

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        await self._connection.close()

    async def respond(self, request: ModelRequest) -> ModelReply:
        """Ask once, with the retries and downgrades that are worth it. Errors: see `ports.Model`."""
        notes: list[str] = []

        async def once(extra: Sequence[Item]) -> Answer:
            return await self._send(request, (*request.items, *extra), notes)

        answered = await ask(request, once, model=self._model)
        return ModelReply(reply=answered.reply, data=answered.data, usage=answered.usage, notes=tuple(notes))

    async def _send(self, request: ModelRequest, items: Sequence[Item], notes: list[str]) -> Answer:
        while True:
            body = self._body(request, items)
            try:
                data = await self._connection.post("/chat/completions", body)
            except RequestRefusedError as error:
                refused_format = "response_format" in body and any(
                    word in error.said for word in _FORMAT_WORDS
                )
                if error.endpoint_missing or error.model_unknown or not refused_format:
                    raise
                self._json = _NEXT_JSON[self._json]
                notes.append(f"JSON is asked of {self._model} in words, because its server refuses a schema.")
                continue
            return self._answer(data, code_wanted=isinstance(request.wanted, CodeWanted))

    def _body(self, request: ModelRequest, items: Sequence[Item]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._model}
        match request.wanted:
            case CodeWanted():
                items = (*items, Said(text=FenceCodec().hint))
            case JsonWanted() as wanted if self._json == "json_schema":
                body["response_format"] = {
                    "type": "json_schema",
                    "json_schema": {"name": wanted.name, "schema": dict(wanted.schema), "strict": True},
                }
            case JsonWanted() as wanted:
                items = (*items, Said(text=form_of(wanted)))
                if self._json == "json_object":
                    body["response_format"] = {"type": "json_object"}
            case _:
                pass
        body["messages"] = chat_messages(request.instructions, items)
        return body

    def _answer(self, data: Mapping[str, Any], *, code_wanted: bool) -> Answer:
        choices = as_list(data.get("choices"))
        choice = as_mapping(choices[0] if choices else None)
        message = as_mapping(choice.get("message"))
        content = message.get("content")
        text = without_thoughts(
            as_text(content) or "".join(as_text(as_mapping(part).get("text")) for part in as_list(content))
        ).strip()
        if choice.get("finish_reason") == "content_filter":
            raise ModelReplyError(f"The server of {self._model} held its reply back by a content filter.")
        problem = ""
        if choice.get("finish_reason") == "length":
            problem = "it was cut off at a limit of length; be shorter"
        code: str | None = None
        if code_wanted:
            text, code = split_code(text)
        usage = as_mapping(data.get("usage"))
        details = as_mapping(usage.get("prompt_tokens_details"))
        return Answer(
            reply=Reply(text=text, code=code, model=self._model),
            usage=Usage(
                turns=1,
                input_tokens=as_count(usage.get("prompt_tokens")),
                output_tokens=as_count(usage.get("completion_tokens")),
                cached_tokens=as_count(details.get("cached_tokens")),
                written_tokens=as_count(details.get("cache_write_tokens")),
            ),
            problem=problem,
            declined="" if text or code else as_text(message.get("refusal")),
        )


def chat_messages(instructions: str, items: Sequence[Item]) -> list[dict[str, str]]:
    """Write the conversation, with neighbours of one role joined: some templates demand alternating turns."""
    messages: list[dict[str, str]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for item in items:
        message = message_of(item)
        if messages and messages[-1]["role"] == message.role:
            messages[-1]["content"] += f"\n\n{message.text}"
        else:
            messages.append({"role": message.role, "content": message.text})
    return messages
