"""What every model adapter does, over each protocol and each form of code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from pythonic_assistant.adapters.models import ModelSettings, OwnedModel, model_from
from pythonic_assistant.agent.schemas import VERIFICATION_SCHEMA, read_verification
from pythonic_assistant.domain.conversation import CodeResult, Item, Reply, Said
from pythonic_assistant.domain.errors import ModelRefusedError, ModelReplyError, ModelUnavailableError
from pythonic_assistant.ports import CodeWanted, JsonWanted, ModelReply, ModelRequest, TextWanted
from tests.servers.openai_server import TEST_KEY, TEST_MODEL, OpenAIServer
from tests.servers.script import Answer, Code, Data, Heard, Words

ONE_KEY: dict[str, Any] = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A protocol and a form of code."""

    protocol: Literal["responses", "chat"]
    code_format: Literal["auto", "custom", "function", "fence"]


WAYS = [
    Way(protocol="responses", code_format="custom"),
    Way(protocol="responses", code_format="function"),
    Way(protocol="responses", code_format="fence"),
    Way(protocol="chat", code_format="auto"),
]


def talk(heard: Heard) -> Answer:
    """A model that adds what it was given back: nothing in its replies is known before."""
    match heard.wants:
        case "json":
            return Data(data={"sum": sum(len(turn.text) for turn in heard.turns if turn.role != "assistant")})
        case "code":
            codes = [turn.code for turn in heard.turns if turn.code]
            return Code(
                words=f"Code number {len(codes) + 1}.", code=f"print({len(codes) + 1})\nx = '''a\n  b'''"
            )
        case "text":
            return Words(text=f"You said: {heard.last}")


@pytest.fixture(params=WAYS, ids=lambda way: f"{way.protocol}-{way.code_format}")
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@pytest.fixture
def server(way: Way):
    with OpenAIServer(talk, protocol=way.protocol) as running:
        yield running


@pytest.fixture
async def model(way: Way, server: OpenAIServer) -> AsyncIterator[OwnedModel]:
    made = made_for(server, way)
    yield made
    await made.close()


def made_for(server: OpenAIServer, way: Way, **changes: Any) -> OwnedModel:
    settings: dict[str, Any] = {
        "model": TEST_MODEL,
        "api_key": TEST_KEY,
        "base_url": server.url,
        "protocol": way.protocol,
        "code_format": way.code_format,
        "timeout": 5.0,
    }
    return model_from(ModelSettings(**{**settings, **changes}))


async def ask(model: OwnedModel, wanted: Any, *items: Item, purpose: Any = "code") -> ModelReply:
    return await model.respond(
        ModelRequest(
            purpose=purpose,
            instructions="Be exact.",
            items=items or (Said(text="Begin."),),
            wanted=wanted,
            cache_key="run-1",
        )
    )


async def test_words_come_back(model: OwnedModel) -> None:
    answered = await ask(model, TextWanted(), Said(text="Hello."))
    assert answered.reply.text == "You said: Hello."
    assert answered.reply.code is None
    assert answered.reply.model == model.name == TEST_MODEL
    assert answered.data is None
    assert not model.scripted


async def test_usage_is_counted_although_details_are_null(model: OwnedModel) -> None:
    usage = (await ask(model, TextWanted())).usage
    assert (usage.turns, usage.input_tokens, usage.output_tokens, usage.cost) == (1, 11, 7, None)


async def test_code_comes_back_as_it_was_written(model: OwnedModel) -> None:
    answered = await ask(model, CodeWanted())
    assert answered.reply.code == "print(1)\nx = '''a\n  b'''"
    assert answered.reply.text == "Code number 1."
    assert answered.notes == ()


async def test_results_are_matched_to_their_code(model: OwnedModel, server: OpenAIServer, way: Way) -> None:
    items: list[Item] = [Said(text="Begin.")]
    for number in (1, 2, 3):
        answered = await ask(model, CodeWanted(), *items)
        assert answered.reply.code is not None
        assert answered.reply.code.startswith(f"print({number})")
        assert (answered.reply.call_id is None) == (way.protocol == "chat" or way.code_format == "fence")
        items += [answered.reply, CodeResult(text=f"output {number}", call_id=answered.reply.call_id)]
    answered = await ask(
        model, JsonWanted(name="sums", schema=ONE_KEY), *items, Said(text="Sum?"), purpose="verify"
    )
    assert answered.data is not None
    assert answered.data["sum"] >= len("Begin.Sum?") + 3 * len("output 1")
    assert server.refusals == []
    if way.protocol == "responses":
        replayed = [item for item in server.requests[-1]["input"] if item.get("id")]
        assert replayed == [raw for item in items if isinstance(item, Reply) for raw in item.raw]


async def test_an_earlier_request_is_a_prefix_of_a_later_one(
    model: OwnedModel, server: OpenAIServer, way: Way
) -> None:
    if way.code_format == "fence" or way.protocol == "chat":
        wanted: Any = TextWanted()
    else:
        wanted = CodeWanted()
    first = await ask(model, wanted, Said(text="Begin."))
    await ask(
        model,
        wanted,
        Said(text="Begin."),
        first.reply,
        CodeResult(text="1", call_id=first.reply.call_id),
    )
    key = "input" if way.protocol == "responses" else "messages"
    earlier, later = (request[key] for request in server.requests)
    assert later[: len(earlier)] == earlier
    assert len(later) > len(earlier)


async def test_a_call_that_was_never_run_is_no_obstacle(model: OwnedModel, server: OpenAIServer) -> None:
    first = await ask(model, CodeWanted(), Said(text="Begin."))
    answered = await ask(
        model, TextWanted(), Said(text="Begin."), first.reply, Said(text="Leave it."), purpose="probe"
    )
    assert answered.reply.text.endswith("Leave it.")
    assert server.refusals == []


async def test_replies_of_another_model_are_given_as_text(model: OwnedModel, server: OpenAIServer) -> None:
    foreign = Reply(
        text="Mine.",
        code="print('theirs')",
        call_id="call_9",
        model="another",
        raw=({"type": "custom_tool_call", "call_id": "call_9", "id": "x", "name": "exec", "input": "…"},),
    )
    answered = await ask(
        model, CodeWanted(), Said(text="Begin."), foreign, CodeResult(text="theirs", call_id="call_9")
    )
    assert answered.reply.code is not None
    assert answered.reply.code.startswith("print(2)")
    assert "call_9" not in str(server.requests[-1])
    assert "print('theirs')" in str(server.requests[-1]).replace('\\"', "'").replace("\\'", "'")
    assert server.refusals == []


async def test_json_keeps_to_a_strict_schema(model: OwnedModel, server: OpenAIServer) -> None:
    answered = await ask(model, JsonWanted(name="sums", schema=ONE_KEY), Said(text="four"), purpose="plan")
    assert answered.data == {"sum": 4}
    assert '"strict": true' in str(server.requests[-1]).replace("'", '"').replace("True", "true")


async def test_the_schemas_of_the_loop_are_strict(way: Way) -> None:
    def verify(heard: Heard) -> Answer:
        assert heard.schema is not None
        return Data(data={"answer": "4", "checks": [{"claim": "It is 4.", "code": "assert 2 + 2 == 4"}]})

    with OpenAIServer(verify, protocol=way.protocol) as server:
        model = made_for(server, way)
        answered = await ask(model, JsonWanted(name="verification", schema=VERIFICATION_SCHEMA))
        await model.close()
    assert answered.data is not None
    assert read_verification(answered.data).checks[0].claim == "It is 4."
    assert server.refusals == []


async def test_a_server_without_schemas_is_asked_in_words(way: Way) -> None:
    with OpenAIServer(talk, protocol=way.protocol, manners="no_schema") as server:
        model = made_for(server, way)
        first = await ask(model, JsonWanted(name="sums", schema=ONE_KEY), Said(text="four"))
        second = await ask(model, JsonWanted(name="sums", schema=ONE_KEY), Said(text="four"))
        await model.close()
    assert first.data is not None
    assert first.data == second.data
    assert len(first.notes) == 1
    assert "schema" in first.notes[0]
    assert second.notes == ()
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", ["empty", "garbled", "cut_off"])
async def test_an_unreadable_reply_is_asked_for_once_more(
    fault: Any, model: OwnedModel, server: OpenAIServer
) -> None:
    server.faults.append(fault)
    answered = await ask(model, JsonWanted(name="sums", schema=ONE_KEY), Said(text="four"))
    assert answered.data is not None
    assert answered.usage.turns == 2
    assert "could not be used" in str(server.requests[-1])
    assert server.refusals == []


@pytest.mark.parametrize("wanted", [TextWanted(), CodeWanted(), JsonWanted(name="sums", schema=ONE_KEY)])
async def test_two_empty_replies_are_an_error(wanted: Any, model: OwnedModel, server: OpenAIServer) -> None:
    server.faults.extend(["empty", "empty"])
    with pytest.raises(ModelReplyError, match="empty"):
        await ask(model, wanted)
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", ["429", "500", "truncated", "blank"])
async def test_a_passing_failure_is_waited_out(fault: Any, model: OwnedModel, server: OpenAIServer) -> None:
    server.faults.append(fault)
    answered = await ask(model, TextWanted(), Said(text="Hello."))
    assert answered.reply.text == "You said: Hello."
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("faults", "error", "says"),
    [
        (["429"] * 3, ModelUnavailableError, "429"),
        (["500"] * 3, ModelUnavailableError, "500"),
        (["quota"] * 3, ModelRefusedError, "no quota"),
        (["html"], ModelReplyError, "web page"),
        (["truncated"] * 2, ModelReplyError, "broken JSON"),
        (["blank"] * 2, ModelReplyError, "nothing"),
    ],
    ids=["429", "500", "quota", "html", "truncated", "blank"],
)
async def test_a_lasting_failure_is_one_clear_sentence(
    faults: list[Any], error: type[Exception], says: str, model: OwnedModel, server: OpenAIServer
) -> None:
    server.faults.extend(faults)
    with pytest.raises(error, match=says) as caught:
        await ask(model, TextWanted())
    assert len(server.requests) == len(faults)
    assert TEST_KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_hanging_server_is_given_up(way: Way, server: OpenAIServer) -> None:
    server.faults.append("hang")
    model = made_for(server, way, timeout=0.2, retries=0)
    with pytest.raises(ModelUnavailableError, match=r"did not answer within 0\.2 seconds"):
        await ask(model, TextWanted())
    await model.close()


async def test_a_wrong_key_is_named_but_not_shown(way: Way, server: OpenAIServer) -> None:
    model = made_for(server, way, api_key="sk-secret-123456")
    with pytest.raises(ModelRefusedError, match="OPENAI_API_KEY") as caught:
        await ask(model, TextWanted())
    await model.close()
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(ModelSettings(model="m", api_key="sk-secret-123456"))


async def test_an_unknown_model_is_named(way: Way, server: OpenAIServer) -> None:
    model = made_for(server, way, model="gpt-none")
    with pytest.raises(ModelRefusedError, match="no model named gpt-none: set PYTHONIC_MODEL"):
        await ask(model, TextWanted())
    await model.close()


async def test_no_server_is_named(way: Way) -> None:
    with OpenAIServer(talk) as server:
        url = server.url
    model = made_for(server, way, base_url=url, retries=0)
    with pytest.raises(ModelUnavailableError, match=r"No model's server answers at http://127\.0\.0\.1:"):
        await ask(model, TextWanted())
    await model.close()


async def test_an_unknown_host_is_named(way: Way, server: OpenAIServer) -> None:
    model = made_for(server, way, base_url="http://user:pass@nowhere.invalid/v1", retries=0)
    with pytest.raises(ModelUnavailableError, match=r"http://nowhere\.invalid/v1") as caught:
        await ask(model, TextWanted())
    await model.close()
    assert "pass" not in str(caught.value)


async def test_nothing_that_new_models_refuse_is_sent(model: OwnedModel, server: OpenAIServer) -> None:
    await ask(model, CodeWanted())
    await ask(model, JsonWanted(name="sums", schema=ONE_KEY))
    for body in server.requests:
        assert not {"temperature", "top_p", "max_tokens", "max_output_tokens", "seed"} & set(body)
