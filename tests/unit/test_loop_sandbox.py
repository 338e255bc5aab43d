"""The loop's use of the sandbox: rolling back, tools, limits, what code may reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pythonic_assistant.agent.stubs import stub_of
from pythonic_assistant.domain.event import RunFailed, RunSucceeded
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.domain.plan import Plan, Step
from pythonic_assistant.domain.secret import placeholder_of
from pythonic_assistant.domain.task import FinishedStep, Resume
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.tools.built_in import EARLIER_TASKS
from pythonic_assistant.tools.registry import CheckedToolbox
from tests.fakes import OpenSandbox, OpenSession, code, plan, verification
from tests.unit.loop_bench import Bench, Way


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


async def test_a_network_module_without_hosts_is_hinted_at_when_it_fails(bench: Bench) -> None:
    failing = "import requests\nraise OSError('no route')"
    end = await bench.run(plan("s1"), code(failing), code("x = 1"), verification("1", "assert x"))
    assert isinstance(end, RunSucceeded)
    assert "this task may reach no host" in bench.told(2)


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


LOOK = f"import sys\nx = 1\nway = sys.modules[{Way.__module__!r}].Way\nway.seen.append(way.once_more)"


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
