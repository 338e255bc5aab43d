"""A server of OpenAI's protocols that a Python function answers for, for tests.

It refuses what OpenAI refuses, so a client that passes here sends well-formed requests. Run by itself:
`python -m tests.servers.openai_server --script sales` prints its base URL as one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from tests.servers import rules, sales
from tests.servers.heard import heard_in_chat, heard_in_responses
from tests.servers.script import Answer, Code, Data, Script, Words
from tests.servers.wire import Incoming, Outgoing, WireServer

Protocol = Literal["responses", "chat"]
Manners = Literal["openai", "ollama", "no_tools", "drops_tools", "no_schema", "no_extras"]
Fault = Literal[
    "429", "quota", "500", "hang", "html", "truncated", "cut_off", "blank", "empty", "garbled", "failed"
]

TEST_KEY = "test-key"
TEST_MODEL = "test-model"
SCRIPTS: Mapping[str, Script] = {"sales": sales.script}


class OpenAIServer:
    """Serves `/v1/responses` or `/v1/chat/completions`, never both, on a free port of loopback.

    Attributes:
        requests: bodies of all requests that were JSON, oldest first.
        faults: what to do wrong with the next requests, one each; add to it while the server runs.
        refusals: messages of all requests that broke a rule.
    """

    def __init__(
        self,
        script: Script,
        *,
        protocol: Protocol = "responses",
        manners: Manners = "openai",
        key: str = TEST_KEY,
        model: str = TEST_MODEL,
        port: int = 0,
    ) -> None:
        """Prepare; `start`, or use as a context manager.

        Args:
            script: makes the answers.
            protocol: the one that is spoken; the other's path is unknown (404).
            manners: "openai" takes all; "ollama" refuses custom tools and their calls;
                "no_tools" refuses every tool; "drops_tools" overlooks them and answers in fences;
                "no_schema" refuses schemas for JSON; "no_extras" refuses `include` and `prompt_cache_key`.
            key: that has to be sent; empty takes any.
            model: that exists.
            port: 0 for a free one.
        """
        self.requests: list[dict[str, Any]] = []
        self.faults: deque[Fault] = deque()
        self.refusals: list[str] = []
        self._script = script
        self._protocol = protocol
        self._manners = manners
        self._key = key
        self._model = model
        self._wire = WireServer(self._handle, port=port)
        self._numbers = itertools.count(1)
        self._issued: dict[str, Mapping[str, Any]] = {}

    @property
    def url(self) -> str:
        """The base URL for clients, up to `/v1`."""
        return f"http://127.0.0.1:{self._wire.port}/v1"

    def start(self) -> None:
        """Listen. Returns when requests can be sent."""
        self._wire.start()

    def close(self) -> None:
        """Stop, also in the middle of an answer."""
        self._wire.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _handle(self, incoming: Incoming) -> Outgoing:
        try:
            return self._answered(incoming)
        except rules.Refused as refused:
            self.refusals.append(str(refused))
            return _json(refused.body, status=refused.status)
        except LookupError as error:
            self.refusals.append(str(error))
            return _json({"error": {"message": f"The test's script has no answer: {error}"}}, status=400)

    def _answered(self, incoming: Incoming) -> Outgoing:
        path = "/v1/responses" if self._protocol == "responses" else "/v1/chat/completions"
        if incoming.path != path or incoming.method != "POST":
            raise rules.Refused(f"Invalid URL ({incoming.method} {incoming.path})", status=404)
        given = incoming.headers.get("authorization", "").removeprefix("Bearer ")
        if self._key and given != self._key:
            raise rules.Refused(f"Incorrect API key provided: {given}.", status=401, code="invalid_api_key")
        body = json.loads(incoming.body)
        self.requests.append(body)
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and (outgoing := _FAULTS.get(fault)) is not None:
            return outgoing
        if body.get("model") != self._model:
            raise rules.Refused(
                f"The model '{body.get('model')}' does not exist or you do not have access to it.",
                status=404,
                code="model_not_found",
            )
        if self._protocol == "chat":
            return self._chat(body, fault)
        return self._responses(body, fault)

    def _chat(self, body: dict[str, Any], fault: Fault | None) -> Outgoing:
        if self._manners == "no_schema" and body.get("response_format", {}).get("type") == "json_schema":
            raise rules.Refused("'response_format.type' must be 'json_object' or 'text'.")
        rules.check_chat(body)
        text = _faulty(fault)
        if text is None:
            text = _in_words(self._script(heard_in_chat(body)))
        return _json(
            {
                "id": f"chatcmpl-{next(self._numbers)}",
                "object": "chat.completion",
                "created": 1_790_000_000,
                "model": self._model,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": text, "refusal": None},
                        "finish_reason": "length" if fault == "cut_off" else "stop",
                    }
                ],
                "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
            }
        )

    def _responses(self, body: dict[str, Any], fault: Fault | None) -> Outgoing:
        self._mind_manners(body)
        rules.check_responses(body, self._issued)
        if fault == "failed":
            return _json(
                {**_response(self._model, [], "failed"), "error": {"code": "server_error", "message": "Oh."}}
            )
        text = _faulty(fault)
        tools = [] if self._manners == "drops_tools" else body.get("tools", [])
        if text is not None:
            output = [self._message(text)] if text else []
        else:
            output = self._output(self._script(heard_in_responses(body)), tools, body.get("tool_choice"))
        self._issued.update({item["id"]: item for item in output})
        return _json(_response(self._model, output, "incomplete" if fault == "cut_off" else "completed"))

    def _mind_manners(self, body: dict[str, Any]) -> None:
        kinds = {tool.get("type") for tool in body.get("tools", ())}
        items = body["input"] if isinstance(body.get("input"), list) else []
        if self._manners == "ollama":
            if "custom" in kinds:
                raise rules.Refused("unsupported tool type: custom", param="tools")
            if any(item.get("type", "").startswith("custom_tool_call") for item in items):
                raise rules.Refused("unknown input item type: custom_tool_call")
        elif self._manners == "no_tools" and kinds:
            raise rules.Refused(f"{self._model} does not support tools")
        elif (
            self._manners == "no_schema"
            and body.get("text", {}).get("format", {}).get("type") == "json_schema"
        ):
            raise rules.Refused("json_schema is not supported")
        elif self._manners == "no_extras":
            for field in ("include", "prompt_cache_key"):
                if field in body:
                    raise rules.Refused(
                        f"Unknown parameter: '{field}'.", code="unknown_parameter", param=field
                    )

    def _output(self, answer: Answer, tools: list[Any], choice: str | None) -> list[dict[str, Any]]:
        output: list[dict[str, Any]] = []
        if self._manners in ("openai", "no_schema"):
            number = next(self._numbers)
            output.append(
                {
                    "type": "reasoning",
                    "id": f"rs_{number}",
                    "summary": [],
                    "encrypted_content": f"sealed-{number}",
                }
            )
        if not isinstance(answer, Code) or not tools or choice == "none":
            return [*output, self._message(_in_words(answer))]
        if answer.words:
            output.append(self._message(answer.words))
        number = next(self._numbers)
        call = {"call_id": f"call_{number}", "name": tools[0]["name"], "status": "completed"}
        if tools[0]["type"] == "custom":
            call |= {"type": "custom_tool_call", "id": f"ctc_{number}", "input": answer.code}
        else:
            arguments = json.dumps({"code": answer.code})
            call |= {"type": "function_call", "id": f"fc_{number}", "arguments": arguments}
        return [*output, call]

    def _message(self, text: str) -> dict[str, Any]:
        return {
            "type": "message",
            "id": f"msg_{next(self._numbers)}",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
        }


def _response(model: str, output: list[dict[str, Any]], status: str) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": model,
        "output": output,
        "parallel_tool_calls": False,
        "tools": [],
        # Servers other than OpenAI's leave the details null.
        "usage": {
            "input_tokens": 11,
            "output_tokens": 7,
            "total_tokens": 18,
            "input_tokens_details": None,
            "output_tokens_details": None,
        },
    }


def _in_words(answer: Answer) -> str:
    match answer:
        case Code():
            return f"{answer.words}\n\n```python\n{answer.code}\n```".strip()
        case Data():
            return json.dumps(answer.data)
        case Words():
            return answer.text


def _faulty(fault: Fault | None) -> str | None:
    return {"empty": "", "garbled": "Certainly! { not JSON", "cut_off": "{"}.get(fault or "")


def _json(body: object, *, status: int = 200) -> Outgoing:
    return Outgoing(status=status, body=json.dumps(body).encode())


def _error(
    status: int, message: str, *, kind: str = "server_error", code: str | None = None, **headers: str
) -> Outgoing:
    body = {"error": {"message": message, "type": kind, "code": code, "param": None}}
    return Outgoing(
        status=status,
        body=json.dumps(body).encode(),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


_FAULTS: Mapping[str, Outgoing] = {
    "429": _error(
        429, "Rate limit reached.", kind="requests", code="rate_limit_exceeded", retry_after="0.05"
    ),
    "quota": _error(
        429,
        "You exceeded your current quota.",
        kind="insufficient_quota",
        code="insufficient_quota",
        retry_after="0.01",
    ),
    "500": _error(500, "The server had an error.", retry_after="0.01"),
    "hang": Outgoing(delay=60.0),
    "html": Outgoing(body=b"<!DOCTYPE html><html><body>Welcome</body></html>", content_type="text/html"),
    "truncated": Outgoing(body=b'{"id": "resp_1", "output": [{"type": "mess'),
    "blank": Outgoing(body=b""),
}


def main(arguments: list[str] | None = None, *, wait: Callable[[], object] | None = None) -> None:
    """Serve a script until the process is told to end (SIGTERM, SIGINT)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", choices=sorted(SCRIPTS), required=True)
    parser.add_argument("--protocol", choices=("responses", "chat"), default="responses")
    parser.add_argument("--manners", choices=Manners.__args__, default="openai")
    parser.add_argument("--key", default=TEST_KEY)
    parser.add_argument("--model", default=TEST_MODEL)
    given = parser.parse_args(arguments)
    over = threading.Event()
    if wait is None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: over.set())
    server = OpenAIServer(
        SCRIPTS[given.script],
        protocol=given.protocol,
        manners=given.manners,
        key=given.key,
        model=given.model,
        port=given.port,
    )
    with server:
        print(json.dumps({"url": server.url, "key": given.key, "model": given.model}), flush=True)
        (wait or over.wait)()


if __name__ == "__main__":
    main()
