"""The loop's use of the sandbox: rolling back, checks apart, tools, limits, saved variables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pythonic_assistant.agent import loop
from pythonic_assistant.agent.stubs import stub_of
from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.conversation import CodeResult, Said
from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.event import Event, RunFailed, RunSucceeded
from pythonic_assistant.domain.execution import Execution
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.domain.plan import Plan, Step
from pythonic_assistant.domain.secret import placeholder_of
from pythonic_assistant.domain.task import FinishedStep, Resume, RunRequest
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.domain.variable import SavedVariable
from pythonic_assistant.tools.built_in import EARLIER_TASKS
from pythonic_assistant.tools.registry import CheckedToolbox
from tests.fakes import ListedModel, OpenSandbox, OpenSession, code, plan, verification


class Way:
    """A way out that leads nowhere: the loop only asks for its hosts."""

    hosts = ("api.example.com", "data.example.org")
    certificate = "PEM"

    seen: ClassVar[list[bool]] = []
    once_more: ClassVar[bool] = False

    def serve(self, listener: object) -> AbstractAsyncContextManager[None]:
        raise NotImplementedError

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        Way.once_more = True
        yield
        Way.once_more = False


class Bench:
    def __init__(self, folder: Path) -> None:
        self.sandbox = OpenSandbox(folder / "sessions")
        self.outbox = folder / "outbox"
        self.outbox.mkdir()
        self.model = ListedModel([])
        self.events: list[Event] = []

    async def run(self, *replies: Any, egress: Any = None, toolbox: Any = None, **request: Any) -> Any:
        self.model = ListedModel(list(replies))
        await loop.run(
            RunRequest(**({"prompt": "do it"} | request)),
            model=self.model,
            sandbox=self.sandbox,
            outbox=self.outbox,
            emit=self.events.append,
            egress=egress,
            toolbox=toolbox,
        )
        assert not self.model.replies, "the run asked less than was expected"
        return self.events[-1]

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.kind == kind]

    def told(self, request: int) -> str:
        item = self.model.requests[request].items[-1]
        assert isinstance(item, Said | CodeResult)
        return item.text


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_what_failed_code_did_to_variables_is_undone(bench: Bench) -> None:
    end = await bench.run(
        plan("s1", "s2"),
        code("rows = [1]"),
        code("rows.append(2)\nleft = 1\nimport pathlib\npathlib.Path('note.txt').write_text('x')\n1 / 0"),
        code("assert rows == [1] and 'left' not in globals()\ntotal = sum(rows)"),
        verification("1", "assert total == 1 and rows == [1]"),
    )
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "proven"
    assert [event.rolled_back for event in bench.of("code_executed")] == [False, True, False]
    assert len(bench.sandbox.sessions) == 1, "nothing was run again"
    failure = bench.told(3)
    assert "as before it" in failure
    assert "rows: list = [1]" in failure
    assert "left" not in failure.partition("alive:")[2].partition("\n\n")[0]
    assert (bench.outbox / "note.txt").is_file(), "files stay"


async def test_a_death_under_a_checkpoint_needs_no_new_session(bench: Bench) -> None:
    end = await bench.run(
        plan("s1", "s2"), code("a = 1"), code("DIE"), code("b = a"), verification("1", "assert b == 1")
    )
    assert isinstance(end, RunSucceeded)
    assert len(bench.sandbox.sessions) == 1
    assert [event.rolled_back for event in bench.of("code_executed")] == [False, True, False]


async def test_where_there_is_no_way_back_the_finished_code_runs_again(bench: Bench) -> None:
    class Forgetful(OpenSandbox):
        async def open(self, **options: Any) -> OpenSession:
            session = await super().open(**options)
            session.forget_checkpoints = True
            return session

    bench.sandbox = Forgetful(bench.sandbox.folder)
    end = await bench.run(
        plan("s1", "s2"),
        code("a = [1]"),
        code("a.append(2)\n1 / 0"),
        code("b = a"),
        verification("1", "assert b == [1]"),
    )
    assert isinstance(end, RunSucceeded)
    assert len(bench.sandbox.sessions) == 2
    assert bench.sandbox.sessions[1].ran == ["a = [1]", "b = a"]


async def test_code_that_cannot_work_is_not_run_but_counts(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"),
        code("import sklearn"),
        code("x = (1"),
        code("x = 1"),
        verification("1", "assert x == 1"),
    )
    assert isinstance(end, RunSucceeded)
    assert bench.sandbox.sessions[0].ran == ["x = 1"]
    first, second, _ = bench.of("code_executed")
    assert (first.outcome, second.outcome) == ("error", "error")
    assert not first.rolled_back, "there was nothing to undo"
    assert "was not run" in bench.told(2)
    assert "scipy.optimize" in bench.told(2)
    assert "4 of 5 executions are left" in bench.told(2)
    assert "never closed" in bench.told(3)
    (note,) = bench.of("noted")
    assert "pythonic sandbox packages add scikit-learn" in note.text


async def test_a_module_on_which_the_model_insists_is_let_through_once_it_was_told(bench: Bench) -> None:
    write = "name = 'hel' + 'per'\nopen(name + '.py', 'w').write('value = 7')"
    use = "import sys\nfrom pathlib import Path\nexec(Path('helper.py').read_text())\nimport made_elsewhere"
    end = await bench.run(plan("s1"), code(write + "\nimport made_here"), *[code(use)] * 4)
    assert isinstance(end, RunFailed)
    errors = [event.error for event in bench.of("code_executed")]
    assert "made_here is not installed" in errors[0]
    assert "made_elsewhere is not installed" in errors[1]
    assert "Traceback" in errors[2], "it ran, and running told"


async def test_granted_tools_can_be_imported_by_name(bench: Bench) -> None:
    async def call(name: str, arguments: Mapping[str, Any]) -> Any:
        return []

    replies = [plan("s1"), code("import tools"), code("x = 1"), verification("1", "assert x")]
    await bench.run(*replies, toolbox=CheckedToolbox([EARLIER_TASKS], call))
    assert bench.sandbox.sessions[0].ran[0] == "import tools"
    bench.events.clear()
    await bench.run(*replies)
    assert bench.sandbox.sessions[1].ran[0] == "x = 1"


async def test_a_check_that_imports_what_is_not_there_is_sent_back(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"), code("x = 1"), verification("1", "import polars\nassert x"), verification("1", "assert x")
    )
    assert isinstance(end, RunSucceeded)
    assert "imports polars, which is not installed" in bench.told(3)


async def test_a_network_module_without_hosts_is_hinted_at_when_it_fails(bench: Bench) -> None:
    failing = "import requests\nraise OSError('no route')"
    end = await bench.run(plan("s1"), code(failing), code("x = 1"), verification("1", "assert x"))
    assert isinstance(end, RunSucceeded)
    assert "this task may reach no host" in bench.told(2)


async def test_checks_run_apart_from_the_work(bench: Bench) -> None:
    source = bench.outbox.parent / "a.csv"
    source.write_text("x\n1\n")
    deceive = (
        "import builtins, math\n"
        "total, helper = 1, lambda: 2\n"
        "builtins.DECEIVED = math.DECEIVED = True\n"
        "from pathlib import Path\nPath('t.txt').write_text('t')"
    )
    end = await bench.run(
        plan("s1"),
        code(deceive),
        verification(
            "1", "assert total == 1 and Path('t.txt').read_text() == 't' and Path('inputs/a.csv').read_text()"
        ),
        files=(InputFile(name="a.csv", path=source, media_type="text/csv", bytes=4),),
        seed=3,
        limits=SandboxLimits(processes=7),
        environment={"TOKEN": "t"},
        egress=Way(),
    )
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "proven"
    (work,), (room,) = bench.sandbox.sessions, bench.sandbox.looking
    assert room.names is not work.names
    assert "total" in room.restored
    assert room.read_only
    assert (room.seed, room.limits.processes) == (3, 7)
    assert room.access.egress is None
    assert room.access.toolbox is None
    assert not room.access.environment
    assert work.access.environment == {"TOKEN": "t"}
    assert room.closed
    assert not room.folder.exists(), "nothing of it stays in the outbox"
    assert not any(code_.startswith("import builtins, math") for code_ in room.ran)
    verify = bench.told(2)
    assert "these variables: SESSION, total" in verify


async def test_a_file_of_the_work_is_not_imported_in_place_of_a_library(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"),
        code(
            "from pathlib import Path\nx = Path('of_the_work.py').write_text('value = 1')\nimport of_the_work"
        ),
        verification("1", "import importlib\nimportlib.import_module('of_the_work')\nassert x"),
        budget=Budget(verification_rounds=1),
    )
    assert isinstance(end, RunFailed)
    assert "No module named 'of_the_work'" in end.evidence[0].detail


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


async def test_a_library_that_the_work_imported_need_not_be_imported_again(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"),
        code("import json as j\nfrom pathlib import Path\nx = 1"),
        verification("1", "assert j.loads('1') == x and Path('inputs').is_dir()"),
    )
    assert isinstance(end, RunSucceeded)
    assert end.verdict.kind == "proven"


async def test_a_check_that_kills_its_session_fails_and_the_next_gets_a_new_one(bench: Bench) -> None:
    class Mortal(OpenSandbox):
        async def open(self, **options: Any) -> OpenSession:
            session = await super().open(**options)
            if options.get("folder") is not None and len(self.looking) == 1:
                execute = session.execute

                async def dies(code: str, **more: Any) -> Execution:
                    if "second" in code:
                        session.dead = True
                        return Execution(outcome="died", error="The code used more than 32 MiB of memory.")
                    return await execute(code, **more)

                session.execute = dies  # type: ignore[method-assign]
            return session

    bench.sandbox = Mortal(bench.sandbox.folder)
    end = await bench.run(
        plan("s1"),
        code("first = second = third = 1"),
        verification("1", "assert first", "assert second", "assert third"),
        budget=Budget(verification_rounds=1),
    )
    assert isinstance(end, RunFailed)
    assert [item.outcome for item in end.evidence] == ["passed", "failed", "passed"]
    assert "32 MiB of memory" in end.evidence[1].detail
    assert len(bench.sandbox.looking) == 2
    assert all(session.closed for session in bench.sandbox.looking)


async def test_a_check_room_that_cannot_be_made_fails_the_checks(bench: Bench) -> None:
    class Broken(OpenSandbox):
        async def open(self, **options: Any) -> OpenSession:
            session = await super().open(**options)

            async def no() -> tuple[str, ...]:
                raise SandboxDiedError("The session is gone.")

            if options.get("folder") is not None:
                session.restore = no  # type: ignore[method-assign]
            return session

    bench.sandbox = Broken(bench.sandbox.folder)
    end = await bench.run(
        plan("s1"), code("x = 1"), verification("1", "assert x"), budget=Budget(verification_rounds=1)
    )
    assert isinstance(end, RunFailed)
    assert "The session of the checks ended" in end.evidence[0].detail
    assert all(session.closed for session in bench.sandbox.looking)


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


async def test_the_model_is_told_what_code_may_use_and_reach(bench: Bench) -> None:
    async def call(name: str, arguments: Mapping[str, Any]) -> Any:
        return [name, dict(arguments)]

    placeholder = placeholder_of("GITHUB_TOKEN")
    await bench.run(
        plan("s1"),
        code("x = 1"),
        verification("1", "assert x"),
        egress=Way(),
        toolbox=CheckedToolbox([EARLIER_TASKS], call),
        limits=SandboxLimits(memory_bytes=256 << 20, processes=3),
        environment={"GITHUB_TOKEN": placeholder, "DB_PASSWORD": "raw value", "AWS_REGION": "eu-west-1"},
        raw=("DB_PASSWORD",),
    )
    told = bench.model.requests[0].instructions
    assert "api.example.com, data.example.org" in told
    assert "credentials are in os.environ: GITHUB_TOKEN." in told
    assert "in the clear: DB_PASSWORD." in told
    assert "Also in os.environ: AWS_REGION." in told
    assert "256 MiB of memory, 3 processes and 512 MiB of files" in told
    assert stub_of(EARLIER_TASKS) in told
    assert "raw value" not in told
    started = bench.of("run_started")[0]
    assert started.hosts == ("api.example.com", "data.example.org")
    assert started.limits["memory_bytes"] == 256 << 20
    assert started.limits["execution_seconds"] == 120
    assert bench.sandbox.sessions[0].limits.processes == 3


async def test_without_access_the_model_is_told_that_there_is_none(bench: Bench) -> None:
    await bench.run(plan("s1"), code("x = 1"), verification("1", "assert x"))
    told = bench.model.requests[0].instructions
    assert "There is no network." in told
    assert "os.environ" not in told
    assert "tools.ToolError" not in told


def test_a_stub_is_python_that_says_what_may_be_left_out() -> None:
    spec = ToolSpec(
        name="look_up",
        description='Finds \\things. """ends',
        parameters={
            "type": "object",
            "properties": {
                "most": {"type": ["integer", "null"], "default": None},
                "word": {"type": "string", "description": "what\nto find"},
            },
            "required": ["word"],
        },
        returns="a list",
    )
    stub = stub_of(spec)
    names: dict[str, Any] = {}
    exec(stub, names)
    assert stub.startswith("def look_up(word: str, most: int | None = None):")
    assert "word: what to find" in names["look_up"].__doc__
    assert "Returns a list." in names["look_up"].__doc__


async def test_tool_calls_become_events(bench: Bench) -> None:
    async def call(name: str, arguments: Mapping[str, Any]) -> Any:
        return [1, 2]

    class Calling(OpenSandbox):
        async def open(self, **options: Any) -> OpenSession:
            session = await super().open(**options)
            if options.get("folder") is None:
                toolbox = options["access"].toolbox
                assert await toolbox.call("earlier_tasks", {"words": "tea"}) == [1, 2]
                for name, arguments in (("earlier_tasks", {"limit": 0}), ("x" * 9_999, {})):
                    with pytest.raises(Exception, match=r"refuses|no tool"):
                        await toolbox.call(name, arguments)
                for _ in range(600):
                    await toolbox.call("earlier_tasks", {})
            return session

    bench.sandbox = Calling(bench.sandbox.folder)
    await bench.run(
        plan("s1"),
        code("x = 1"),
        verification("1", "assert x"),
        toolbox=CheckedToolbox([EARLIER_TASKS], call),
    )
    calls = bench.of("tool_called")
    assert [(call_.outcome, call_.arguments) for call_ in calls[:3]] == [
        ("ok", '{"words": "tea"}'),
        ("refused", '{"limit": 0}'),
        ("refused", "{}"),
    ]
    assert calls[0].detail == "6 bytes"
    assert len(calls[2].tool) == 100
    assert len(calls) == 500
    assert "more than 500 times" in bench.of("noted")[0].text


async def test_a_limit_that_is_hit_is_told_to_the_person_once(bench: Bench) -> None:
    await bench.run(
        plan("s1"),
        code("DIE"),
        code("DIE"),
        code("limit = 1 / 0  # the limit of a session (disk_bytes)"),
        code("raise OSError('Code wrote more than 1 MiB, the limit of a session (disk_bytes).')"),
        code("x = 1"),
        verification("1", "assert x"),
    )
    notes = [(note.level, note.text) for note in bench.of("noted")]
    assert [level for level, _ in notes] == ["warning", "warning"]
    assert "memory_bytes" in notes[0][1]
    assert "the limit of a session (disk_bytes)" in notes[1][1]


LOOK = f"import sys\nx = 1\nway = sys.modules[{__name__!r}].Way\nway.seen.append(way.once_more)"


async def test_code_that_runs_once_more_can_only_read_outside(bench: Bench) -> None:
    Way.seen.clear()
    done = Plan(
        steps=(
            Step(id="s1", title="One", goal="g", proof="p"),
            Step(id="s2", title="Two", goal="g", proof="p"),
        )
    )
    end = await bench.run(
        code("DIE_HARD"),
        code(LOOK),
        verification("1", "assert x == 1"),
        egress=Way(),
        resume=Resume(plan=done, finished=(FinishedStep(step_id="s1", code=LOOK, output=""),)),
    )
    assert isinstance(end, RunSucceeded), end
    # The finished step of the earlier attempt; the same once more for the new session; then the new step.
    assert Way.seen == [True, True, False]
