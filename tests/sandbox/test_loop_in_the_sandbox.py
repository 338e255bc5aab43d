"""The loop in a real session: what failed code did is undone, and no code of the work reaches its checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pythonic_assistant.agent import loop
from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.event import Event, RunFailed, RunSucceeded
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.domain.task import RunRequest
from pythonic_assistant.ports import Sandbox
from pythonic_assistant.tools.built_in import EARLIER_TASKS
from pythonic_assistant.tools.registry import CheckedToolbox
from tests.fakes import ListedModel, code, plan, verification

pytestmark = pytest.mark.asyncio(loop_scope="session")

ONE_ROUND = Budget(verification_rounds=1)


async def ran(
    sandbox: Sandbox, folder: Path, *replies: Any, toolbox: Any = None, **request: Any
) -> tuple[list[Event], RunSucceeded | RunFailed]:
    outbox = folder / "outbox"
    outbox.mkdir()
    events: list[Event] = []
    await loop.run(
        RunRequest(**({"prompt": "do it"} | request)),
        model=ListedModel(list(replies)),
        sandbox=sandbox,
        outbox=outbox,
        emit=events.append,
        toolbox=toolbox,
    )
    end = events[-1]
    assert isinstance(end, RunSucceeded | RunFailed)
    return events, end


@pytest.mark.parametrize(
    "failing",
    [
        "rows.append(2)\nleft = 1\n1 / 0",
        "rows.append(2)\nimport os\nos._exit(3)",
        "rows.append(2)\nimport ctypes\nctypes.string_at(0)",
        "rows.append(2)\nbig = b'x' * (1 << 30)",
    ],
    ids=["exception", "exit", "crash", "memory"],
)
async def test_what_failed_code_did_is_undone(sandbox: Sandbox, tmp_path: Path, failing: str) -> None:
    events, end = await ran(
        sandbox,
        tmp_path,
        plan("s1", "s2"),
        code("import threading\nrows = [1]\nlock = threading.Lock()"),
        code(failing),
        code("assert rows == [1] and 'left' not in globals()\nlock.acquire()\ntotal = sum(rows)"),
        verification("1", "assert total == 1 and rows == [1]"),
        limits=SandboxLimits(memory_bytes=400 << 20),
    )
    assert isinstance(end, RunSucceeded), end
    executed = [event for event in events if event.kind == "code_executed"]
    assert [event.rolled_back for event in executed] == [False, True, False]


DECEIVE = {
    # Only of lists of lists: the session's own Python needs len() as well.
    "builtins": "import builtins\n_len = len\n"
    "builtins.len = lambda x: 99 if type(x) is list and x and type(x[0]) is list else _len(x)\n"
    "builtins.AssertionError = KeyError",
    "library": "import csv\ncsv.reader = lambda _: [['99']]",
    "shadow": "from pathlib import Path\n"
    "for name in ('csv', 'pyarrow', 'pandas', 'json', 'os', 'linecache', 'numpy', 'openpyxl'):\n"
    "    Path(f'{name}.py').write_text('import os\\nos._exit(0)')",
    "site": "from pathlib import Path\n"
    "for name in ('sitecustomize.py', 'usercustomize.py'):\n"
    "    Path(name).write_text('import os\\nos._exit(0)')",
    # `ssl` is imported when the first data frame is read, which is before any check.
    "shadow of what is imported late": "import pandas, ssl\n"
    "from pathlib import Path\n"
    "table = pandas.DataFrame({'a': [1]})\n"
    "for name in ('ssl', '_ssl'):\n"
    "    Path(f'{name}.py').write_text('import csv\\ncsv.reader = lambda _: [[1]] * 99')",
    "object": "class Always(int):\n    def __eq__(self, other): return True\n"
    "    def __hash__(self): return 1\ntotal = Always(1)",
}


@pytest.mark.parametrize("trick", DECEIVE)
async def test_code_of_the_work_cannot_deceive_its_checks(
    sandbox: Sandbox, tmp_path: Path, trick: str
) -> None:
    source = tmp_path / "a.csv"
    source.write_text("1\n2\n3\n")
    count = "import csv\nrows = list(csv.reader(open('inputs/a.csv')))\n"
    _, end = await ran(
        sandbox,
        tmp_path,
        plan("s1"),
        code(f"total = 1\n{DECEIVE[trick]}"),
        verification("99", f"{count}assert len(rows) == 99, len(rows)", f"{count}assert len(rows) == 3"),
        files=(InputFile(name="a.csv", path=source, media_type="text/csv", bytes=6),),
        budget=ONE_ROUND,
    )
    assert isinstance(end, RunFailed)
    claims = [item for item in end.evidence if "inputs/a.csv" in item.code]
    assert [item.outcome for item in claims] == ["failed", "passed"], claims


async def test_checks_see_files_and_values_and_change_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    _, end = await ran(
        sandbox,
        tmp_path,
        plan("s1"),
        code(
            "import pandas as pd, numpy as np, datetime\n"
            "table = pd.DataFrame({'a': [1, 2]})\narray = np.arange(3)\nday = datetime.date(2026, 1, 2)\n"
            "pair = (1, {2})\ntable.to_csv('t.csv', index=False)"
        ),
        verification(
            "See `t.csv`.",
            "assert table.equals(pd.read_csv('t.csv'))",
            "assert array.tolist() == [0, 1, 2] and day.year == 2026 and pair == (1, {2})",
            "import errno\ntry:\n    open('t.csv', 'w')\nexcept OSError as error:\n    number = error.errno\n"
            "assert number == errno.EROFS and table.shape == (2, 1)",
        ),
    )
    assert isinstance(end, RunSucceeded), end
    assert end.verdict.kind == "proven"
    assert (tmp_path / "outbox" / "t.csv").read_text() == "a\n1\n2\n"
    assert not list((tmp_path / "outbox").glob(".checks-*"))


async def test_a_check_that_dies_fails_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    _, end = await ran(
        sandbox,
        tmp_path,
        plan("s1"),
        code("x = 1"),
        verification("1", "assert x", "import os\nos._exit(0)\nassert x", "assert x == 1"),
        budget=ONE_ROUND,
    )
    assert isinstance(end, RunFailed)
    assert [item.outcome for item in end.evidence] == ["passed", "failed", "passed"]


async def test_variables_of_one_run_are_loaded_in_the_next(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    events, _ = await ran(
        sandbox,
        tmp_path / "first",
        plan("s1"),
        code("import pandas as pd\ntable = pd.DataFrame({'a': [1, 2]})"),
        verification("2", "assert len(table) == 2"),
    )
    (saved,) = [event for event in events if event.kind == "variable_saved"]
    path = Path(saved.path)
    load = saved.load.replace("{path!r}", repr(f"inputs/{path.name}"))
    _, end = await ran(
        sandbox,
        tmp_path / "second",
        plan("s1"),
        code(f"import pandas\nagain = {load}"),
        verification("2", f"import pandas\nagain = {load}\nassert len(again) == 2"),
        files=(InputFile(name=path.name, path=path, media_type=saved.media_type, bytes=saved.bytes),),
    )
    assert isinstance(end, RunSucceeded), end


async def test_code_calls_a_granted_tool_and_the_call_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    async def call(name: str, arguments: Mapping[str, Any]) -> Any:
        return [{"id": 7, **arguments}]

    events, end = await ran(
        sandbox,
        tmp_path,
        plan("s1"),
        code(
            "import tools\nfound = earlier_tasks('tea', limit=2)\n"
            "try:\n    earlier_tasks(limit=0)\nexcept tools.ToolError as error:\n    refused = str(error)"
        ),
        verification("7", "assert found[0]['id'] == 7 and found[0]['limit'] == 2 and 'limit' in refused"),
        toolbox=CheckedToolbox([EARLIER_TASKS], call),
    )
    assert isinstance(end, RunSucceeded), end
    assert [event.outcome for event in events if event.kind == "tool_called"] == ["ok", "refused"]
