"""The rules by which OpenAI refuses requests, as far as a client without state can break them.

Sources: the parameter types of openai 3.52 (`types/responses`, `types/chat`), and the messages that people
report for each mistake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


class Refused(Exception):
    """A request that breaks a rule."""

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        }


RESPONSES_FIELDS = frozenset(
    (  # noqa: SIM905
        "background conversation context_management include input instructions max_output_tokens "
        "max_tool_calls metadata model parallel_tool_calls previous_response_id prompt "
        "prompt_cache_key prompt_cache_retention reasoning safety_identifier service_tier store "
        "stream stream_options temperature text tool_choice tools top_logprobs top_p truncation "
        "user"
    ).split()
)
CHAT_FIELDS = frozenset(
    (  # noqa: SIM905
        "messages model response_format store metadata stream seed stop n user tools tool_choice "
        "parallel_tool_calls prompt_cache_key reasoning_effort verbosity max_completion_tokens "
        "temperature top_p"
    ).split()
)
_ITEM_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "message": (frozenset({"role", "content"}), frozenset({"type", "id", "status", "phase"})),
    "reasoning": (
        frozenset({"type", "id", "summary"}),
        frozenset({"encrypted_content", "content", "status"}),
    ),
    "custom_tool_call": (frozenset({"type", "call_id", "name", "input"}), frozenset({"id", "status"})),
    "function_call": (frozenset({"type", "call_id", "name", "arguments"}), frozenset({"id", "status"})),
    "custom_tool_call_output": (frozenset({"type", "call_id", "output"}), frozenset({"id"})),
    "function_call_output": (frozenset({"type", "call_id", "output"}), frozenset({"id", "status"})),
}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
_SCHEMA_KEYWORDS = frozenset(
    (  # noqa: SIM905
        "type properties required additionalProperties items enum const description title anyOf "
        "$defs $ref minItems maxItems minimum maximum exclusiveMinimum exclusiveMaximum multipleOf "
        "pattern format"
    ).split()
)
_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})


def check_responses(body: Mapping[str, Any], issued: Mapping[str, Mapping[str, Any]]) -> None:
    """Check a request to `/responses`.

    Args:
        body: the request.
        issued: output items that this server gave before, by id; replayed ones have to be the same.

    Raises:
        Refused: the first rule that is broken.
    """
    _known(body, RESPONSES_FIELDS)
    for field in ("temperature", "top_p"):
        if field in body:
            raise Refused(
                f"Unsupported parameter: '{field}' is not supported with this model.",
                code="unsupported_parameter",
                param=field,
            )
    for field, kind in (("instructions", str), ("store", bool), ("parallel_tool_calls", bool)):
        if field in body and not isinstance(body[field], kind):
            raise _wrong_type(field, kind.__name__)
    key = body.get("prompt_cache_key")
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= 64):
        raise Refused("Invalid 'prompt_cache_key': expected 1 to 64 characters.", param="prompt_cache_key")
    for value in body.get("include", ()):
        if value != "reasoning.encrypted_content":
            raise Refused(f"Invalid value: '{value}'.", code="invalid_value", param="include[0]")
    _tools(body)
    _text_format(body)
    items = body.get("input")
    if isinstance(items, str):
        return
    if not isinstance(items, list) or not items:
        raise _wrong_type("input", "array or string")
    _items(items, issued)


def check_chat(body: Mapping[str, Any]) -> None:
    """Check a request to `/chat/completions`.

    Raises:
        Refused: the first rule that is broken.
    """
    if "max_tokens" in body:
        raise Refused(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            code="unsupported_parameter",
            param="max_tokens",
        )
    _known(body, CHAT_FIELDS)
    for field in ("temperature", "top_p"):
        if field in body:
            raise Refused(f"Unsupported value: '{field}'.", code="unsupported_value", param=field)
    if "tools" in body:
        raise Refused(
            "Function tools with reasoning_effort are not supported. Use /v1/responses.", param="tools"
        )
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong_type("messages", "array")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if set(message) != {"role", "content"} or message["role"] not in ("system", "user", "assistant"):
            raise Refused(f"Invalid message: {sorted(message)}.", param=where)
        if not isinstance(message["content"], str) or not message["content"]:
            raise _wrong_type(f"{where}.content", "string that is not empty")
        if message["role"] == "system" and index:
            raise Refused("The system message has to be the first.", param=where)
        if index and messages[index - 1]["role"] == message["role"]:
            raise Refused("Conversation roles must alternate.", param=where)
    wanted = body.get("response_format")
    if wanted is None:
        return
    if wanted.get("type") == "json_schema":
        _named_schema(wanted.get("json_schema", {}), "response_format.json_schema")
    elif wanted != {"type": "json_object"}:
        raise Refused("Invalid response_format.", param="response_format")


def check_strict_schema(schema: Any, where: str) -> None:
    """Check the subset of JSON Schema that strict mode takes: every key required, none added.

    Raises:
        Refused: with the place of the first mistake.
    """

    def wrong(what: str) -> Refused:
        return Refused(
            f"Invalid schema: In context={where}, {what}.", code="invalid_json_schema", param=where
        )

    if not isinstance(schema, dict):
        raise wrong("a schema has to be an object")
    unknown = set(schema) - _SCHEMA_KEYWORDS
    if unknown:
        raise wrong(f"{sorted(unknown)} is not permitted")
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "anyOf" not in schema and not set(kinds) <= _TYPES:
        raise wrong(f"{kind!r} is not a type")
    if "object" in kinds:
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False:
            raise wrong("'additionalProperties' is required to be supplied and to be false")
        if sorted(schema.get("required", ())) != sorted(properties):
            raise wrong("'required' has to include every key in properties")
        for name, inner in properties.items():
            check_strict_schema(inner, f"{where}.properties.{name}")
    if "array" in kinds:
        check_strict_schema(schema.get("items"), f"{where}.items")
    for index, inner in enumerate(schema.get("anyOf", ())):
        check_strict_schema(inner, f"{where}.anyOf.{index}")


def _known(body: Mapping[str, Any], fields: frozenset[str]) -> None:
    for field in body:
        if field not in fields:
            raise Refused(f"Unknown parameter: '{field}'.", code="unknown_parameter", param=field)


def _wrong_type(param: str, wanted: str) -> Refused:
    return Refused(f"Invalid type for '{param}': expected {wanted}.", code="invalid_type", param=param)


def _tools(body: Mapping[str, Any]) -> None:
    tools = body.get("tools", [])
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        kind = tool.get("type")
        if kind not in ("custom", "function"):
            raise Refused(f"Invalid value: '{kind}'.", code="invalid_value", param=f"{where}.type")
        allowed = {"type", "name", "description"} | (
            {"format"} if kind == "custom" else {"parameters", "strict"}
        )
        for key in set(tool) - allowed:
            raise Refused(
                f"Unknown parameter: '{where}.{key}'.", code="unknown_parameter", param=f"{where}.{key}"
            )
        if not _NAME.match(tool.get("name", "")):
            raise Refused("Invalid tool name.", param=f"{where}.name")
        if kind == "function":
            if not {"parameters", "strict"} <= set(tool):
                raise Refused("Missing required parameter.", param=where)
            check_strict_schema(tool["parameters"], f"{where}.parameters")
    choice = body.get("tool_choice")
    if choice is None:
        return
    if choice not in ("none", "auto", "required"):
        raise Refused(f"Invalid value: {choice!r}.", code="invalid_value", param="tool_choice")
    if not tools:
        raise Refused("Tool choice is given, but no tools are.", param="tool_choice")


def _text_format(body: Mapping[str, Any]) -> None:
    text = body.get("text", {})
    for key in set(text) - {"format", "verbosity"}:
        raise Refused(f"Unknown parameter: 'text.{key}'.", code="unknown_parameter", param=f"text.{key}")
    wanted = text.get("format")
    if wanted is None or wanted in ({"type": "text"}, {"type": "json_object"}):
        return
    if wanted.get("type") != "json_schema":
        raise Refused("Invalid text format.", code="invalid_value", param="text.format.type")
    _named_schema({key: value for key, value in wanted.items() if key != "type"}, "text.format")


def _named_schema(wanted: Mapping[str, Any], where: str) -> None:
    if not {"name", "schema"} <= set(wanted) <= {"name", "schema", "strict", "description"}:
        raise Refused(f"Missing or unknown parameter in '{where}'.", param=where)
    if not _NAME.match(wanted["name"]):
        raise Refused("Invalid name of a schema.", param=f"{where}.name")
    if wanted.get("strict"):
        check_strict_schema(wanted["schema"], f"{where}.schema")
        if wanted["schema"].get("type") != "object":
            raise Refused("The root of the schema has to be an object.", param=f"{where}.schema")


def _items(items: list[Any], issued: Mapping[str, Mapping[str, Any]]) -> None:
    calls: dict[str, str] = {}
    answered: set[str] = set()
    for index, item in enumerate(items):
        where = f"input[{index}]"
        kind = item.get("type", "message")
        if kind not in _ITEM_KEYS:
            raise Refused(f"Invalid value: '{kind}'.", code="invalid_value", param=f"{where}.type")
        needed, optional = _ITEM_KEYS[kind]
        for key in needed - set(item):
            raise Refused(f"Missing required parameter: '{where}.{key}'.", param=f"{where}.{key}")
        for key in set(item) - needed - optional:
            raise Refused(
                f"Unknown parameter: '{where}.{key}'.", code="unknown_parameter", param=f"{where}.{key}"
            )
        if kind == "message":
            _message(item, where)
        elif kind == "reasoning":
            _reasoning(items, index, issued)
        elif kind.endswith("_output"):
            call_id = item["call_id"]
            if calls.get(call_id) != kind.removesuffix("_output"):
                raise Refused(
                    f"No tool call found for function call output with call_id {call_id}.", param="input"
                )
            if call_id in answered:
                raise Refused(f"Duplicate output for call_id {call_id}.", param="input")
            if not isinstance(item["output"], str):
                raise _wrong_type(f"{where}.output", "string")
            answered.add(call_id)
        else:
            calls[item["call_id"]] = kind
        known = issued.get(item.get("id", ""))
        if known is not None and known != item:
            raise Refused(f"Item '{item['id']}' is not what was given.", param=where)
    for call_id in calls:
        if call_id not in answered:
            raise Refused(f"No tool output found for function call {call_id}.", param="input")


def _message(item: Mapping[str, Any], where: str) -> None:
    role, content = item["role"], item["content"]
    if role not in ("user", "assistant", "system", "developer"):
        raise Refused(f"Invalid value: '{role}'.", code="invalid_value", param=f"{where}.role")
    if isinstance(content, str):
        if not content:
            raise _wrong_type(f"{where}.content", "string that is not empty")
        return
    for part in content:
        wanted = ("output_text", "refusal") if role == "assistant" else ("input_text",)
        if part.get("type") not in wanted:
            raise Refused(
                f"Invalid value: '{part.get('type')}'.", code="invalid_value", param=f"{where}.content[0]"
            )


def _reasoning(items: list[Any], index: int, issued: Mapping[str, Mapping[str, Any]]) -> None:
    item = items[index]
    if not item.get("encrypted_content"):
        raise Refused(
            f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false.",
            status=404,
            param="input",
        )
    if issued.get(item["id"], {}).get("encrypted_content") != item["encrypted_content"]:
        raise Refused(
            "The encrypted content could not be verified.", code="invalid_encrypted_content", param="input"
        )
    following = items[index + 1].get("type", "message") if index + 1 < len(items) else ""
    own = following in ("custom_tool_call", "function_call", "reasoning") or (
        following == "message" and items[index + 1]["role"] == "assistant"
    )
    if not own:
        raise Refused(
            f"Item '{item['id']}' of type 'reasoning' was provided without its required following item.",
            param="input",
        )
