"""Models over the Responses API, stateless: OpenAI's own, and the servers that speak its protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pythonic_assistant.adapters.models.asking import Answer, ask, form_of
from pythonic_assistant.adapters.models.codecs import CODECS, NEXT_FORMAT, CodeFormat, read_output
from pythonic_assistant.adapters.models.connection import Connection
from pythonic_assistant.adapters.models.json_values import as_count, as_list, as_mapping, as_text
from pythonic_assistant.adapters.models.refusals import RequestRefusedError, excerpt
from pythonic_assistant.adapters.models.transcript import input_items, replayed
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Item, Reply, Said
from pythonic_assistant.domain.errors import ModelRefusedError, ModelReplyError, ModelUnavailableError
from pythonic_assistant.ports import CodeWanted, JsonWanted, ModelReply, ModelRequest

JsonFormat = Literal["json_schema", "json_object", "plain"]
_NEXT_JSON: Mapping[JsonFormat, JsonFormat] = {"json_schema": "json_object", "json_object": "plain"}

_CACHE_KEY_LENGTH = 64
"""Longest `prompt_cache_key` that OpenAI takes (API reference of Responses, create)."""

_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "prompt_cache_key": ("prompt_cache_key",),
    "include": ("'include'", '"include"', "encrypted content is not supported"),
    "parallel_tool_calls": ("parallel_tool_calls", "parallel tool calls"),
    "tool_choice": ("tool_choice", "tool choice"),
}
"""Fields that a request can do without, with the words by which a server refuses them."""

_REPLAY_WORDS = ("item", "reasoning", "encrypted_content", "tool_call", "tool call")
_FORMAT_WORDS = ("json_schema", "json_object", "format", "schema")


class ResponsesModel:
    """A model behind `/responses`. What its server refuses is left out from then on, and noted once."""

    def __init__(
        self, connection: Connection, *, model: str, code_format: CodeFormat | Literal["auto"]
    ) -> None:
        """Take over a connection.

        Args:
            connection: closed by `close`.
            model: the name that the server knows.
            code_format: "auto" begins with what suits the server, and is changed when the server refuses it.
        """
        self._connection = connection
        self._model = model
        self._fixed = code_format != "auto"
        self._format: CodeFormat = (
            code_format if code_format != "auto" else "custom" if connection.official else "function"
        )
        self._json: JsonFormat = "json_schema"
        self._dropped: set[str] = set()
        self._verbatim = True

    @property
    def name(self) -> str:
        """The model's name as its server knows it."""
        return self._model

    @property
    def scripted(self) -> bool:
        """False: an AI answers."""
        return False

    @property
    def code_format(self) -> CodeFormat:
        """The form in which code is asked for at present."""
        return self._format

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        await self._connection.close()

    async def respond(self, request: ModelRequest) -> ModelReply:
        """Ask once, with the retries and downgrades that are worth it. Errors: see `ports.Model`."""
        notes: list[str] = []

        async def once(extra: Sequence[Item]) -> Answer:
            items = (*request.items, *extra)
            answer = await self._send(request, items, notes)
            used = CODECS[self._format]
            fenced = answer.reply.code is not None and answer.reply.call_id is None
            if isinstance(request.wanted, CodeWanted) and used.tools and fenced and not self._fixed:
                self._lower_format("the server left the tool out of account", notes)
            return answer

        answered = await ask(request, once, model=self._model)
        return ModelReply(reply=answered.reply, data=answered.data, usage=answered.usage, notes=tuple(notes))

    async def _send(self, request: ModelRequest, items: Sequence[Item], notes: list[str]) -> Answer:
        while True:
            body = self._body(request, items)
            try:
                data = await self._connection.post("/responses", body)
            except RequestRefusedError as error:
                if error.endpoint_missing or error.model_unknown:
                    raise
                # Each turn gives something up for good, so the loop ends.
                if not self._yield(error, body, items, notes):
                    raise
                continue
            return self._answer(data, code_wanted=isinstance(request.wanted, CodeWanted))

    def _body(self, request: ModelRequest, items: Sequence[Item]) -> dict[str, Any]:
        codec = CODECS[self._format]
        code_wanted = isinstance(request.wanted, CodeWanted)
        hint = codec.hint if code_wanted else ""
        if isinstance(request.wanted, JsonWanted) and self._json != "json_schema":
            hint = form_of(request.wanted)
        if hint:
            items = (*items, Said(text=hint))
        body: dict[str, Any] = {
            "model": self._model,
            "instructions": request.instructions,
            "input": input_items(
                items, model=self._model, verbatim=self._verbatim, official=self._connection.official
            ),
            "store": False,
            "include": ["reasoning.encrypted_content"],
        }
        if request.cache_key:
            body["prompt_cache_key"] = _cache_key(request.cache_key)
        # OpenAI caches prefixes that begin with the tools, so they are declared there even where none may be
        # called. Other servers tend to overlook `tool_choice` and would let the model call.
        if codec.tools and (code_wanted or self._connection.official):
            body["tools"] = [dict(tool) for tool in codec.tools]
            body["tool_choice"] = "required" if code_wanted else "none"
            body["parallel_tool_calls"] = False
        if isinstance(request.wanted, JsonWanted) and self._json == "json_schema":
            wanted = request.wanted
            body["text"] = {
                "format": {
                    "type": "json_schema",
                    "name": wanted.name,
                    "schema": dict(wanted.schema),
                    "strict": True,
                }
            }
        elif isinstance(request.wanted, JsonWanted) and self._json == "json_object":
            body["text"] = {"format": {"type": "json_object"}}
        for field in self._dropped:
            body.pop(field, None)
        return body

    def _yield(
        self, error: RequestRefusedError, body: Mapping[str, Any], items: Sequence[Item], notes: list[str]
    ) -> bool:
        """Give up what the server refuses; False when nothing is left to give up."""
        said, param = error.said, error.param.lower()
        for field, words in _OPTIONAL.items():
            if field in body and (param.startswith(field) or any(word in said for word in words)):
                self._dropped.add(field)
                return True
        if param.startswith("tools") and self._lower_format("the server refuses the tool", notes):
            return True
        has_raw = self._verbatim and replayed(items, model=self._model, official=self._connection.official)
        if has_raw and (param.startswith("input") or any(word in said for word in _REPLAY_WORDS)):
            self._verbatim = False
            notes.append(
                f"{self._model} gets earlier replies as text, because its server refuses them as they were."
            )
            if "custom_tool_call" in said:
                self._lower_format("the server does not take its calls back", notes)
            return True
        formatted = "text" in body and self._json in _NEXT_JSON
        if formatted and (param.startswith("text") or any(word in said for word in _FORMAT_WORDS)):
            self._json = _NEXT_JSON[self._json]
            notes.append(f"JSON is asked of {self._model} in words, because its server refuses a schema.")
            return True
        if "tools" in body and any(word in said for word in ("tool", "custom", "function")):
            return self._lower_format("the server refuses the tool", notes)
        return False

    def _lower_format(self, why: str, notes: list[str]) -> bool:
        if self._fixed or self._format not in NEXT_FORMAT:
            return False
        before, self._format = self._format, NEXT_FORMAT[self._format]
        notes.append(f"Code is asked of {self._model} as “{self._format}” instead of “{before}”: {why}.")
        return True

    def _answer(self, data: Mapping[str, Any], *, code_wanted: bool) -> Answer:
        failure = as_mapping(data.get("error"))
        if failure:
            self._raise_failure(failure)
        output = [as_mapping(item) for item in as_list(data.get("output"))]
        read = read_output(output, code_wanted=code_wanted)
        problem = ""
        if data.get("status") == "incomplete":
            reason = as_text(as_mapping(data.get("incomplete_details")).get("reason"))
            if reason == "content_filter":
                raise ModelReplyError(f"The server of {self._model} held its reply back by a content filter.")
            problem = "it was cut off at a limit of length; be shorter"
        elif read.unreadable and code_wanted:
            problem = "the arguments of the call were not valid JSON with a key “code”"
        reply = Reply(
            text=read.text, code=read.code, call_id=read.call_id, model=self._model, raw=tuple(output)
        )
        return Answer(reply=reply, usage=_usage(data), problem=problem, declined=read.refusal)

    def _raise_failure(self, failure: Mapping[str, Any]) -> None:
        said = excerpt(as_text(failure.get("message")) or "no reason given")
        if failure.get("code") in ("server_error", "rate_limit_exceeded", "vector_store_timeout"):
            raise ModelUnavailableError(f"The model {self._model} failed by itself: {said} Try again later.")
        raise ModelRefusedError(f"The model {self._model} refused the request: {said}")


def _usage(data: Mapping[str, Any]) -> Usage:
    usage = as_mapping(data.get("usage"))
    details = as_mapping(usage.get("input_tokens_details"))
    return Usage(
        turns=1,
        input_tokens=as_count(usage.get("input_tokens")),
        output_tokens=as_count(usage.get("output_tokens")),
        cached_tokens=as_count(details.get("cached_tokens")),
        written_tokens=as_count(details.get("cache_write_tokens")),
    )


def _cache_key(key: str) -> str:
    return key if len(key) <= _CACHE_KEY_LENGTH else hashlib.sha256(key.encode()).hexdigest()
