"""Everyday programs: walls that stop honest work would be switched off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.ports import Access
from tests.sandbox.suite.online import online
from tests.sandbox.suite.programmes import BY_NAME, for_tier
from tests.sandbox.suite.run_ordinary import run

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def access() -> AsyncIterator[Access]:
    async with online() as granted:
        yield granted


@pytest.mark.parametrize("name", [programme.name for _, programme in for_tier("namespaces")])
async def test_programme(name: str, sandbox: NamespaceSandbox, access: Access) -> None:
    assert await run(sandbox, BY_NAME[name], access) == ""


async def test_table_from_an_input_to_a_picture(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    given = tmp_path / "sales.csv"
    given.write_text("region,amount\nnorth,10\nsouth,20\nnorth,5\n")
    entry = InputFile(name="sales.csv", path=given, media_type="text/csv", bytes=given.stat().st_size)
    async with await sandbox.open(inputs=[entry]) as session:
        result = await session.execute(
            "import pandas as pd\ntable = pd.read_csv('inputs/sales.csv')\n"
            "sums = table.groupby('region').amount.sum()\nprint(sums.to_dict())\nsums.idxmax()",
            timeout=10,
        )
        assert (result.stdout, result.value) == ("{'north': 15, 'south': 20}\n", "'south'")
        plotted = await session.execute(
            "import matplotlib.pyplot as plt\nsums.plot.bar()\n"
            "plt.savefig('sums.png')\nplt.savefig('sums.pdf')",
            timeout=20,
        )
        assert plotted.outcome == "ok", plotted.error
        await session.execute("table.to_excel('t.xlsx'); table.to_parquet('t.parquet')", timeout=20)
        found = {a.name: a.media_type for a in await session.collect(tmp_path / "out")}
    assert found == {
        "sums.png": "image/png",
        "sums.pdf": "application/pdf",
        "t.parquet": "application/vnd.apache.parquet",
        "t.xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    }
    assert (tmp_path / "out" / "sums.png").read_bytes().startswith(b"\x89PNG")


async def test_variables_are_described(session: NamespaceSession) -> None:
    await session.execute(
        "import pandas as pd, numpy as np\n"
        "table = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})\nseries = table.a\ngrid = np.zeros((3, 4))\n"
        "text = 'long ' * 1000\nnumbers = list(range(1000))\nnothing = None\n"
        "def f(x, y=2): ...\n_private = 1\nnested = {'k': [1]}",
        timeout=10,
    )
    found = {v.name: v for v in await session.variables()}
    assert set(found) == {"table", "series", "grid", "text", "numbers", "nothing", "f", "nested"}
    assert found["table"].type == "pandas.DataFrame"
    assert "2 rows x 2 columns: a (int64), b (str)" in found["table"].summary
    assert "length 2, dtype int64" in found["series"].summary
    assert "shape (3, 4), dtype float64" in found["grid"].summary
    assert found["text"].summary.startswith("length 5000: 'long")
    assert len(found["text"].summary) < 300
    assert found["numbers"].summary.startswith("1000 items: 0, 1, 2, 3, 4, …")
    assert found["f"].summary == "f(x, y=2)"
    assert (found["nothing"].type, found["nothing"].summary) == ("NoneType", "None")
    assert found["nested"].summary == "1 items: 'k': [1]"


async def test_traceback_shows_the_codes_own_lines(session: NamespaceSession) -> None:
    await session.execute(
        "def outer():\n    return inner()\ndef inner():\n    return {}['missing']", timeout=5
    )
    result = await session.execute("outer()", timeout=5)
    assert result.outcome == "error"
    assert '"<step 2>", line 1' in result.error
    assert "    return {}['missing']" in result.error
    assert "KeyError: 'missing'" in result.error
    assert "repl.py" not in result.error
    syntax = await session.execute("a b", timeout=5)
    assert "SyntaxError" in syntax.error
    assert "repl.py" not in syntax.error
    assert "ast.py" not in syntax.error


async def test_output_arrives_while_code_runs(session: NamespaceSession) -> None:
    import asyncio

    pieces: list[tuple[str, str]] = []
    arrived = asyncio.Event()

    def on_output(stream: str, text: str) -> None:
        pieces.append((stream, text))
        arrived.set()

    running = asyncio.create_task(
        session.execute(
            "import time, sys\nprint('größe', flush=True)\ntime.sleep(0.5)\nprint('last', file=sys.stderr)",
            timeout=5,
            on_output=on_output,
        )
    )
    async with asyncio.timeout(3):
        await arrived.wait()
    assert not running.done()
    result = await running
    assert (result.stdout, result.stderr) == ("größe\n", "last\n")
    assert pieces == [("stdout", "größe\n"), ("stderr", "last\n")]
