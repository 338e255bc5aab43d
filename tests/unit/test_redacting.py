"""A secret that code holds in the clear leaves its session nowhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythonic_assistant.agent import loop
from pythonic_assistant.agent.redacting import CleanSession, clean
from pythonic_assistant.domain.errors import ToolError
from pythonic_assistant.domain.event import Event, OutputWritten, RunSucceeded
from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.task import RunRequest
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.tools.registry import CheckedToolbox
from tests.fakes import ListedModel, OpenSandbox, code, plan, verification
from tests.plain_session import PlainSession

CANARY = 'canary-7f3a!b/c+d=e f"g'
SHOWN = "[DB_PASSWORD]"


@given(st.text(alphabet="ab-x", max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_a_value_is_found_however_its_text_is_cut_into_pieces(around: str, cuts: list[int]) -> None:
    redactor = Redactor({"abab-ab": "[S]"})
    text = around + "abab-ab" + around
    held, out = "", ""
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    for begin, end in pairwise(places):
        held += text[begin:end]
        settled = redactor.settled(held)
        out, held = out + redactor.text(held[:settled]), held[settled:]
        assert len(held) < 2 * redactor.longest
    assert out + redactor.text(held) == redactor.text(text)


class Chatty(PlainSession):
    """Hands on its output in pieces of three characters, and describes variables as the sandbox does: cut."""

    async def execute(self, code: str, *, on_output: Any = None, **options: Any) -> Execution:
        def in_pieces(stream: Any, text: str) -> None:
            for at in range(0, len(text), 3):
                on_output(stream, text[at : at + 3])

        return await super().execute(code, on_output=in_pieces if on_output else None, **options)

    async def variables(self) -> tuple[VariableInfo, ...]:
        return tuple(
            VariableInfo(name=v.name, type=v.type, summary=f"{v.summary[:10]}…, {v.summary[:60]}")
            for v in await super().variables()
        )


async def test_output_in_pieces_and_cut_descriptions_are_clean(tmp_path: Path) -> None:
    session = CleanSession(Chatty(tmp_path), Redactor({CANARY: SHOWN}))
    heard: list[str] = []
    execution = await session.execute(
        f"key = {CANARY!r}\nprint('is', key, 'now')",
        timeout=1,
        on_output=lambda _, text: heard.append(text),
    )
    assert execution.stdout == f"is {SHOWN} now\n"
    assert "".join(heard) == execution.stdout
    assert all("canary" not in text for text in heard)
    (variable,) = await session.variables()
    assert "canar" not in variable.summary


async def test_what_the_output_limit_cut_in_half_is_not_shown(tmp_path: Path) -> None:
    class Cut(PlainSession):
        async def execute(self, *_: Any, **__: Any) -> Execution:
            return Execution(outcome="ok", stdout=f"key: {CANARY[:9]}", truncated=True)

    execution = await CleanSession(Cut(tmp_path), Redactor({CANARY: SHOWN})).execute("", timeout=1)
    assert execution.stdout == "key: "


def test_an_event_is_cleaned_in_every_part() -> None:
    event = OutputWritten(step_id="s1", execution=1, stream="stdout", text=f"a {CANARY} b")
    assert clean(Redactor({CANARY: SHOWN}), event).text == f"a {SHOWN} b"
    assert clean(Redactor({}), event) is event


LEAKS = {
    "output": "print(KEY)",
    "error": "raise ValueError(KEY)",
    "stderr": "import sys\nprint(KEY, file=sys.stderr)",
    "encoded": "import base64\nprint(base64.b64encode(b'user:' + KEY.encode()).decode())",
    "hex": "print(KEY.encode().hex())",
    "variable": "copy_of_it = [KEY]",
    "long": "print('x' * 3_990 + KEY + 'y' * 9_000)",
    "tool": "TOOL(KEY)",
}


@pytest.mark.parametrize("way", LEAKS)
async def test_the_canary_reaches_neither_the_model_nor_an_event(tmp_path: Path, way: str) -> None:
    asked: list[Mapping[str, Any]] = []

    async def call(name: str, arguments: Mapping[str, Any]) -> Any:
        asked.append(arguments)
        raise ToolError(f"There is nothing about {CANARY}.")

    class Sandbox(OpenSandbox):
        async def open(self, **options: Any) -> Any:
            session = await super().open(**options)
            if options.get("folder") is None:
                session.names["_KEY"] = session.access.environment["DB_PASSWORD"]
            return session

    class Called(Sandbox):
        """Calls the tool for the code, as a session does over its channel."""

        async def open(self, **options: Any) -> Any:
            session = await super().open(**options)
            toolbox = session.access.toolbox
            if toolbox is not None and not options.get("folder"):
                with pytest.raises(ToolError):
                    await toolbox.call("look_up", {"words": CANARY})
            return session

    folder = tmp_path / "sessions"
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    leak = LEAKS[way].replace("KEY", "_KEY").replace("TOOL", "print")
    model = ListedModel(
        [
            plan("s1"),
            code(leak + "\nx = 1\n1 / 0"),
            code("x = 1\nkept = _KEY" if way == "variable" else "x = 1"),
            verification(f"It is {CANARY}.", f"print({CANARY!r})\nassert x == 1"),
        ]
    )
    events: list[Event] = []
    spec = ToolSpec(
        name="look_up",
        description="",
        parameters={"type": "object", "properties": {"words": {"type": "string"}}},
    )
    await loop.run(
        RunRequest(prompt=f"Use {CANARY}.", environment={"DB_PASSWORD": CANARY}, raw=("DB_PASSWORD",)),
        model=model,
        sandbox=(Called if way == "tool" else Sandbox)(folder),
        outbox=outbox,
        emit=events.append,
        toolbox=CheckedToolbox([spec], call),
    )
    assert isinstance(events[-1], RunSucceeded)
    assert events[-1].answer == f"It is {SHOWN}."
    told = [repr(event) for event in events] + [
        repr((request.instructions, [item for item in request.items if item.kind != "reply"]))
        for request in model.requests
    ]
    for spelling in (
        CANARY,
        repr(CANARY)[1:-1],
        CANARY[:12],
        CANARY.encode().hex(),
        base64.b64encode(b"user:" + CANARY.encode()).decode()[8:30],
    ):
        assert all(spelling not in text for text in told), spelling
    assert any(SHOWN in text for text in told)
    if way == "tool":
        assert asked == [{"words": SHOWN}]
        (called,) = [event for event in events if event.kind == "tool_called"]
        assert SHOWN in called.arguments
        assert SHOWN in called.detail
        assert called.outcome == "failed"
