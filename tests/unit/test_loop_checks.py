"""The loop's checks: run apart from the work, in a session that can only look."""

from __future__ import annotations

from typing import Any

from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.event import RunFailed, RunSucceeded
from pythonic_assistant.domain.execution import Execution
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from tests.fakes import OpenSandbox, OpenSession, code, plan, verification
from tests.unit.loop_bench import Bench, Way


async def test_a_check_that_imports_what_is_not_there_is_sent_back(bench: Bench) -> None:
    end = await bench.run(
        plan("s1"), code("x = 1"), verification("1", "import polars\nassert x"), verification("1", "assert x")
    )
    assert isinstance(end, RunSucceeded)
    assert "imports polars, which is not installed" in bench.told(3)


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
