"""Whole tasks through the real loop: the demo's four, and one over the wire that is none of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest

from pythonic_assistant.adapters.models import ModelSettings, model_from
from pythonic_assistant.adapters.models.demo import demo_model, demo_prompts
from pythonic_assistant.agent.loop import run
from pythonic_assistant.domain.event import CodeExecuted, Event, RunFailed, RunSucceeded
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.task import Exchange, RunRequest
from pythonic_assistant.ports import Model
from tests.servers import sales
from tests.servers.in_process import InProcessSandbox
from tests.servers.openai_server import TEST_KEY, TEST_MODEL, OpenAIServer

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMPTS = {title: prompt for title, prompt, _ in demo_prompts()}


async def solved(
    model: Model, prompt: str, files: list[Path], tmp_path: Path, **more: Any
) -> tuple[list[Event], RunSucceeded | RunFailed]:
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    events: list[Event] = []
    request = RunRequest(
        prompt=prompt,
        files=tuple(
            InputFile(name=path.name, path=path, media_type="text/csv", bytes=path.stat().st_size)
            for path in files
        ),
        **more,
    )
    sandbox = InProcessSandbox(tmp_path / "session")
    await run(request, model=model, sandbox=sandbox, outbox=outbox, emit=events.append)
    end = events[-1]
    assert isinstance(end, RunSucceeded | RunFailed)
    return events, end


def outcomes(events: list[Event]) -> list[str]:
    return [event.outcome for event in events if isinstance(event, CodeExecuted)]


@pytest.mark.parametrize("title", PROMPTS)
async def test_each_task_of_the_demo_is_proven(title: str, tmp_path: Path) -> None:
    _, end = await solved(demo_model(), PROMPTS[title], [EXAMPLES / "penguins.csv"], tmp_path)
    assert isinstance(end, RunSucceeded), end
    assert end.verdict.kind == "proven"
    assert sum(1 for item in end.verdict.evidence if item.code) >= 3
    assert re.search(r"\d", end.answer)


async def test_the_plot_fails_first_and_is_mended(tmp_path: Path) -> None:
    events, end = await solved(
        demo_model(), PROMPTS["Plot with trend lines"], [EXAMPLES / "penguins.csv"], tmp_path
    )
    assert outcomes(events) == ["ok", "error", "ok"]
    assert isinstance(end, RunSucceeded)
    assert (tmp_path / "outbox" / "plot.png").read_bytes().startswith(b"\x89PNG")


async def test_figures_come_from_the_run(tmp_path: Path) -> None:
    heavier = tmp_path / "penguins.csv"
    lines = (EXAMPLES / "penguins.csv").read_text().splitlines()
    changed = [line.replace(",3750,", ",9999,") for line in lines[:200]]
    heavier.write_text("\n".join(changed) + "\n")
    _, end = await solved(demo_model(), PROMPTS["A question with figures"], [heavier], tmp_path)
    assert isinstance(end, RunSucceeded), end
    assert "9,999 g" in end.answer
    assert "of 198 penguins" in end.answer


UPLOADS = {
    "plain.csv": b"name,age\nAnn,31\nBob,\nAnn,31\n",
    "german.csv": "Stadt;Größe;Wert\nKöln;groß;1,5\nBonn;;2,5\nBonn;;2,5\n".encode("latin-1"),
    "ragged.csv": b"\xef\xbb\xbfa,b\n1,2,3\n4\n\n5,x\n",
    "pipes.csv": b'"a|b","a|b",photo\n"x, y",1,cat.png\n"z\nz",-2,dog.png\n',
    "tabs.tsv": b"a\tb\n1\t2\n",
    "one_column.csv": b"word\nred\nRed\n red\n",
    "header_only.csv": b"a,b,c\n",
    "wide.csv": (",".join(f"column_{n}" for n in range(120)) + "\n" + ",".join("7" * 120) + "\n").encode(),
}


@pytest.mark.parametrize("name", UPLOADS)
async def test_any_upload_is_described(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(UPLOADS[name])
    files = [path, EXAMPLES / "penguins.csv"]
    _, end = await solved(demo_model(), PROMPTS["Describe an upload"], files, tmp_path)
    assert isinstance(end, RunSucceeded), end
    assert end.verdict.kind == "proven"
    assert f"`{name}` has " in end.answer


async def test_what_is_odd_is_found(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    rows = [f"{n % 7 + 1},{'x' if n == 3 else n},A,ok" for n in range(20)]
    path.write_text("\n".join(["a,b,c,d", *rows, "9000,21,A,ok", rows[0], "3,4,A, Ok"]) + "\n")
    _, end = await solved(demo_model(), PROMPTS["Describe an upload"], [path], tmp_path)
    assert isinstance(end, RunSucceeded), end
    for found in (
        "1 rows repeat",
        "`a` has 1 values far",
        "`b` holds 1 values",
        "`c` has one value",
        "spaces",
    ):
        assert found in end.answer, found


async def test_another_prompt_is_refused_also_after_one_of_the_demo(tmp_path: Path) -> None:
    history = (Exchange(role="user", content=PROMPTS["Table of means"]),)
    _, end = await solved(demo_model(), "Write a poem.", [], tmp_path, history=history)
    assert isinstance(end, RunFailed)
    assert not end.retryable
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PYTHONIC_MODEL", "Ollama"):
        assert name in end.error


async def test_the_probe_of_the_demo(tmp_path: Path) -> None:
    _, end = await solved(demo_model(), "probe", [], tmp_path, kind="probe")
    assert isinstance(end, RunSucceeded)


@pytest.mark.parametrize(
    ("protocol", "code_format", "manners"),
    [
        ("responses", "custom", "openai"),
        ("responses", "function", "openai"),
        ("responses", "fence", "openai"),
        ("responses", "auto", "ollama"),
        ("responses", "auto", "no_tools"),
        ("responses", "auto", "drops_tools"),
        ("responses", "auto", "no_schema"),
        ("responses", "auto", "no_extras"),
        ("chat", "auto", "openai"),
        ("chat", "auto", "no_schema"),
    ],
)
async def test_a_task_over_the_wire(
    protocol: Literal["responses", "chat"], code_format: Any, manners: Any, tmp_path: Path
) -> None:
    upload = tmp_path / "my_sales.csv"
    upload.write_text(sales.CSV)
    with OpenAIServer(sales.script, protocol=protocol, manners=manners) as server:
        model = model_from(
            ModelSettings(
                model=TEST_MODEL, api_key=TEST_KEY, base_url=server.url, code_format=code_format, timeout=10
            )
        )
        events, end = await solved(model, sales.PROMPT, [upload], tmp_path)
        await model.close()
    assert isinstance(end, RunSucceeded), end
    assert end.verdict.kind == "proven"
    assert outcomes(events) == ["error", "ok", "ok"]
    assert "**South** sold most in 2025: 2320.35" in end.answer
    assert "59.10 more than North" in end.answer
    notes = [event.text for event in events if event.kind == "noted"]
    if manners == "openai" and protocol == "responses":
        assert server.refusals == []
        assert notes == []
    assert len(notes) == len(set(notes))
