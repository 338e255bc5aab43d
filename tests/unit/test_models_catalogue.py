"""Settings, downgrades and the sentences of errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from pythonic_assistant.adapters.models import ModelSettings, model_from
from pythonic_assistant.adapters.models.catalogue import EitherProtocol
from pythonic_assistant.adapters.models.chat import ChatModel
from pythonic_assistant.adapters.models.refusals import RequestRefusedError, excerpt, shown_url, translated
from pythonic_assistant.adapters.models.responses import ResponsesModel
from pythonic_assistant.domain.conversation import CodeResult, Reply, Said
from pythonic_assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    ModelRefusedError,
    ModelReplyError,
    ModelUnavailableError,
)
from pythonic_assistant.ports import CodeWanted, ModelRequest, TextWanted
from tests.servers.openai_server import TEST_KEY, TEST_MODEL, OpenAIServer
from tests.servers.script import Answer, Code, Heard, Words


def talk(heard: Heard) -> Answer:
    return Code(code="x = 1") if heard.wants == "code" else Words(text="ready")


def request(wanted: Any = None, *items: Any) -> ModelRequest:
    return ModelRequest(
        purpose="code",
        instructions="",
        items=items or (Said(text="Go."),),
        wanted=wanted or CodeWanted(),
        cache_key="k" * 100,
    )


def settings(server: OpenAIServer, **changes: Any) -> ModelSettings:
    given: dict[str, Any] = {"model": TEST_MODEL, "api_key": TEST_KEY, "base_url": server.url, "timeout": 5.0}
    return ModelSettings(**{**given, **changes})


@pytest.fixture
def responses_server() -> Iterator[OpenAIServer]:
    with OpenAIServer(talk) as server:
        yield server


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": " "}, "PYTHONIC_MODEL"),
        ({"api_key": ""}, "OPENAI_API_KEY"),
        ({"api_key": "sk with spaces"}, "OPENAI_API_KEY"),
        ({"base_url": "localhost:11434"}, "http://"),
        ({"protocol": "chat", "code_format": "custom"}, "PYTHONIC_CODE_FORMAT"),
        ({"timeout": 0}, "timeout"),
        ({"retries": -1}, "retries"),
    ],
)
def test_impossible_settings_are_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        model_from(ModelSettings(**{"model": "m", "api_key": "sk-1", **changes}))
    assert "sk with spaces" not in str(caught.value)


async def test_settings_choose_protocol_and_format() -> None:
    for changes, kind in (({}, EitherProtocol), ({"protocol": "chat"}, ChatModel)):
        model = model_from(ModelSettings(model="m", api_key="k", **changes))
        assert isinstance(model, kind)
        await model.close()
        await model.close()
    for base_url, code_format in (("", "custom"), ("http://127.0.0.1:1/v1", "function")):
        model = model_from(ModelSettings(model="m", api_key="k", base_url=base_url, protocol="responses"))
        assert isinstance(model, ResponsesModel)
        assert model.code_format == code_format
        await model.close()


async def test_a_server_without_keys_needs_none() -> None:
    with OpenAIServer(talk, key="") as server:
        model = model_from(settings(server, api_key=""))
        assert (await model.respond(request(TextWanted()))).reply.text == "ready"
        await model.close()


async def test_a_chat_server_is_found_once() -> None:
    with OpenAIServer(talk, protocol="chat") as server:
        model = model_from(settings(server))
        first = await model.respond(request())
        second = await model.respond(request())
        await model.close()
    assert first.reply.code == second.reply.code == "x = 1"
    assert len(first.notes) == 1
    assert "Chat Completions" in first.notes[0]
    assert second.notes == ()
    assert server.refusals == ["Invalid URL (POST /v1/responses)"]


async def test_neither_protocol_names_the_base_url() -> None:
    with OpenAIServer(talk) as server:
        model = model_from(settings(server, base_url=f"{server.url}/wrong"))
        with pytest.raises(ModelRefusedError, match="OPENAI_BASE_URL, which usually ends in /v1"):
            await model.respond(request())
        await model.close()


@pytest.mark.parametrize(
    ("manners", "formats", "notes"),
    [
        ("ollama", ["function"], 0),
        ("no_tools", ["function", "fence"], 1),
        ("drops_tools", ["function", "fence"], 1),
        ("openai", ["function"], 0),
    ],
)
async def test_the_format_is_lowered_once(manners: Any, formats: list[str], notes: int) -> None:
    with OpenAIServer(talk, manners=manners) as server:
        model = model_from(settings(server, protocol="responses"))
        assert isinstance(model, ResponsesModel)
        assert model.code_format == formats[0]
        first = await model.respond(request())
        assert first.reply.code == "x = 1"
        assert model.code_format == formats[-1]
        assert len(first.notes) == notes
        assert (await model.respond(request())).notes == ()
        await model.close()


async def test_custom_is_lowered_to_function_and_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    from pythonic_assistant.adapters.models.connection import Connection

    monkeypatch.setattr(Connection, "official", property(lambda self: True))
    for manners, lowest in (("ollama", "function"), ("no_tools", "fence"), ("openai", "custom")):
        with OpenAIServer(talk, manners=manners) as server:
            model = model_from(settings(server, protocol="responses"))
            assert isinstance(model, ResponsesModel)
            answered = await model.respond(request())
            assert answered.reply.code == "x = 1"
            assert model.code_format == lowest
            assert len(answered.notes) == ("custom", "function", "fence").index(lowest)
            await model.close()


async def test_tools_are_declared_where_prefixes_are_cached(
    monkeypatch: pytest.MonkeyPatch, responses_server: OpenAIServer
) -> None:
    from pythonic_assistant.adapters.models.connection import Connection

    for official in (True, False):
        monkeypatch.setattr(Connection, "official", property(lambda self, official=official: official))
        model = model_from(settings(responses_server, protocol="responses", code_format="function"))
        await model.respond(request(TextWanted()))
        await model.close()
        body = responses_server.requests[-1]
        assert ("tools" in body) == official
        assert body.get("tool_choice") == ("none" if official else None)
    assert responses_server.refusals == []


async def test_a_fixed_format_is_not_lowered() -> None:
    with OpenAIServer(talk, manners="no_tools") as server:
        model = model_from(settings(server, protocol="responses", code_format="function"))
        with pytest.raises(ModelRefusedError, match="does not support tools"):
            await model.respond(request())
        await model.close()


async def test_replayed_calls_that_are_refused_become_text() -> None:
    raw = ({"type": "custom_tool_call", "id": "c", "call_id": "c1", "name": "python", "input": "y"},)
    reply = Reply(text="", code="y", call_id="c1", model=TEST_MODEL, raw=raw)
    with OpenAIServer(talk, manners="ollama") as server:
        model = model_from(settings(server, protocol="responses"))
        answered = await model.respond(
            request(CodeWanted(), Said(text="Go."), reply, CodeResult(text="1", call_id="c1"))
        )
        await model.close()
    assert answered.reply.code == "x = 1"
    assert len(server.refusals) == 1
    assert "```python\\ny\\n```" in json.dumps(server.requests[-1]["input"])


async def test_unknown_fields_are_left_out_from_then_on() -> None:
    with OpenAIServer(talk, manners="no_extras") as server:
        model = model_from(settings(server, protocol="responses"))
        await model.respond(request())
        await model.respond(request())
        await model.close()
    assert len(server.requests) == 4
    assert not {"include", "prompt_cache_key"} & set(server.requests[-1])


async def test_the_request_is_stateless(responses_server: OpenAIServer) -> None:
    model = model_from(settings(responses_server, protocol="responses"))
    await model.respond(request())
    await model.close()
    body = responses_server.requests[0]
    assert body["store"] is False
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["parallel_tool_calls"] is False
    assert body["tool_choice"] == "required"
    assert len(body["prompt_cache_key"]) == 64
    assert "previous_response_id" not in body


async def test_a_failed_response_can_be_tried_again(responses_server: OpenAIServer) -> None:
    responses_server.faults.append("failed")
    model = model_from(settings(responses_server, protocol="responses"))
    with pytest.raises(ModelUnavailableError, match="failed by itself"):
        await model.respond(request())
    await model.close()


async def test_words_instead_of_code_are_quoted() -> None:
    with OpenAIServer(lambda heard: Words(text="I would rather not.")) as server:
        model = model_from(settings(server, protocol="responses", code_format="fence"))
        with pytest.raises(ModelReplyError, match=r"held no code .*I would rather not"):
            await model.respond(request())
        await model.close()


def error_of(status: int, body: Any) -> AssistantError:
    text = body if isinstance(body, str) else json.dumps(body)
    response = httpx2.Response(status, text=text, request=httpx2.Request("POST", "http://host/v1/responses"))
    inner = body if isinstance(body, str) else body.get("error", body)
    return translated(
        openai.APIStatusError("Error.", response=response, body=inner),
        base_url="http://me:pw@host/v1",
        path="/responses",
        model="m",
        api_key="sk-secret",
        seconds=1.0,
    )


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (
            400,
            {"error": {"message": "The model does not exist", "code": "model_not_found"}},
            RequestRefusedError,
            "named m",
        ),
        (404, {"error": {"message": "model 'm' not found"}}, RequestRefusedError, "named m"),
        (404, "404 page not found", RequestRefusedError, "has no /responses"),
        (404, {"detail": "Not Found"}, RequestRefusedError, "has no /responses"),
        (404, {"error": {"message": "Item with id 'rs_1' not found."}}, RequestRefusedError, "Item with id"),
        (405, "", RequestRefusedError, "has no /responses"),
        (403, {"error": {"message": "Not yours"}}, RequestRefusedError, "does not let"),
        (
            400,
            {"error": {"message": "x", "code": "context_length_exceeded"}},
            RequestRefusedError,
            "longer than",
        ),
        (400, {"error": "just a text sk-secret"}, RequestRefusedError, "just a text •••"),
        (422, {"detail": [{"loc": ["body", "tools"]}]}, RequestRefusedError, "422"),
        (401, {"error": {"message": "Incorrect key sk-secret"}}, ModelRefusedError, "OPENAI_API_KEY"),
        (503, "<html>", ModelUnavailableError, "503"),
    ],
)
def test_each_status_has_its_sentence(status: int, body: Any, kind: type[Exception], says: str) -> None:
    error = error_of(status, body)
    assert isinstance(error, kind)
    assert says in str(error)
    assert "sk-secret" not in str(error)
    assert "pw" not in str(error)
    assert "\n" not in str(error)


def test_missing_paths_are_told_from_missing_models_and_items() -> None:
    path, model, item = (
        error_of(404, body)
        for body in ("404 page not found", {"error": {"message": "model 'm' not found"}}, "Item with id 'rs'")
    )
    assert isinstance(path, RequestRefusedError)
    assert isinstance(model, RequestRefusedError)
    assert isinstance(item, RequestRefusedError)
    assert [path.endpoint_missing, model.endpoint_missing, item.endpoint_missing] == [True, False, False]


def test_urls_and_excerpts_show_no_secrets() -> None:
    assert shown_url("http://me:pw@host:8080/v1/") == "http://host:8080/v1"
    assert shown_url("http://[::1]:1/v1") == "http://[::1]:1/v1"
    assert excerpt("a\n  key b", without="key") == "a ••• b"
    assert len(excerpt("x" * 1000)) == 300


def test_the_names_for_the_page_do_not_import_the_client() -> None:
    code = (
        "import sys; from pythonic_assistant.adapters.models.demo import demo_prompts; "
        "from pythonic_assistant.adapters.models import ModelSettings; "
        "print(len(demo_prompts()), 'openai' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["4", "False"]


def test_the_test_server_runs_by_itself() -> None:
    command = [sys.executable, "-m", "tests.servers.openai_server", "--script", "sales", "--protocol", "chat"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        answer = httpx2.get(told["url"] + "/models", timeout=5)
        process.terminate()
        assert process.wait(10) == 0
    assert answer.status_code == 404
