"""The variables that a run keeps, and those that it is given."""

from __future__ import annotations

from pathlib import Path

from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.event import RunFailed, RunSucceeded
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.variable import SavedVariable
from tests.fakes import code, plan, verification
from tests.unit.loop_bench import Bench


async def test_variables_that_cannot_be_saved_are_named_to_the_model_and_the_person(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"),
        code("import datetime\nx = 1\nthing = {1, 2}\ndef helper():\n    return 1"),
        verification("1", "assert thing"),
        verification("1", "assert x == 1"),
    )
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "proven"
    verify = bench.told(2)
    assert "thing (set) is not there either: Object of type set" in verify
    assert "helper" not in verify
    assert "uses thing, which is not there" in bench.told(3)
    (note,) = bench.of("noted")
    assert note.text.startswith("Not kept for later tasks: thing (set: ")
    assert "helper" not in note.text


async def test_variables_of_a_run_that_succeeded_are_saved(bench: Bench) -> None:
    (bench.outbox / ".variables").mkdir()
    (bench.outbox / ".variables" / "old.json").write_text("1")
    await bench.run(
        plan("s1"),
        code("import pandas as pd\ntable = pd.DataFrame({'a': [1, 2]})\n_hidden = 1"),
        verification("2", "assert len(table) == 2"),
    )
    saved = {event.name: event for event in bench.of("variable_saved")}
    assert saved.keys() == {"SESSION", "table"}
    assert saved["table"].media_type == "application/vnd.apache.parquet"
    assert Path(saved["table"].path).parent == bench.outbox / ".variables"
    assert Path(saved["table"].path).stat().st_size == saved["table"].bytes
    assert not (bench.outbox / ".variables" / "old.json").exists()
    assert bench.events[-1].kind == "run_succeeded"


async def test_variables_of_a_refuted_run_are_not_saved(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"), code("x = 1"), verification("2", "assert x == 2"), budget=Budget(verification_rounds=1)
    )
    assert isinstance(end, RunFailed)
    assert bench.of("variable_saved") == []
    assert not (bench.outbox / ".variables").exists()


async def test_variables_of_earlier_tasks_are_told_with_how_to_load_them(bench: Bench) -> None:
    kept = bench.outbox.parent / "saved_it's.parquet"
    kept.write_text("")
    saved = SavedVariable(
        name="totals",
        type="pandas.DataFrame",
        shape="3 x 2",
        bytes=9,
        media_type="application/vnd.apache.parquet",
        load="totals = pd.read_parquet({path!r}){odd}",
        path=Path("inputs/saved_it's.parquet"),
    )
    file = InputFile(name=kept.name, path=kept, media_type="x/y", bytes=0)
    await bench.run(plan("s1"), code("x = 1"), verification("1", "assert x"), files=(file,), saved=(saved,))
    first = bench.told(0)
    assert (
        '- totals (pandas.DataFrame, 3 x 2): totals = pd.read_parquet("inputs/saved_it\'s.parquet"){odd}'
        in first
    )
    assert "Files of the person:\n- none" in first, "they are not files of the person"
