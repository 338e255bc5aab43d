"""Everyday programs: walls that stop honest work would be switched off."""

from __future__ import annotations

from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.files import InputFile

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROGRAMMES = {
    "numpy": ("import numpy as np\nfloat((np.eye(50) @ np.ones((50, 50))).sum())", "2500.0"),
    "linear algebra": ("import numpy as np\nround(float(np.linalg.det(np.diag([2.0, 3.0]))), 6)", "6.0"),
    "pandas dates": ("import pandas as pd\nlen(pd.date_range('2024-02-01', '2024-03-01'))", "30"),
    "excel": (
        "import pandas as pd\npd.DataFrame({'a': [1, 2]}).to_excel('t.xlsx', index=False)\n"
        "int(pd.read_excel('t.xlsx').a.sum())",
        "3",
    ),
    "parquet": (
        "import pandas as pd\npd.DataFrame({'a': [1, 2]}).to_parquet('t.parquet')\n"
        "int(pd.read_parquet('t.parquet').a.sum())",
        "3",
    ),
    "openpyxl": (
        "import openpyxl\nb = openpyxl.Workbook(); b.active['A1'] = 5; b.save('b.xlsx')\n"
        "openpyxl.load_workbook('b.xlsx').active['A1'].value",
        "5",
    ),
    "sqlite": (
        "import sqlite3\nc = sqlite3.connect('t.db'); c.execute('create table t(a)'); "
        "c.execute('insert into t values (4)'); c.commit()\nc.execute('select a from t').fetchone()[0]",
        "4",
    ),
    "zip": (
        "import zipfile\nwith zipfile.ZipFile('t.zip', 'w') as z: z.writestr('a', 'hello')\n"
        "zipfile.ZipFile('t.zip').read('a')",
        "b'hello'",
    ),
    "time zones": (
        "import datetime, zoneinfo\n"
        "str(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin')).utcoffset())",
        "'2:00:00'",
    ),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as p: r = list(p.map(lambda x: x * x, range(5)))\nr",
        "[0, 1, 4, 9, 16]",
    ),
    "processes": (
        "import multiprocessing\ndef double(x): return 2 * x\n"
        "with multiprocessing.Pool(2) as p: r = p.map(double, [1, 2])\nr",
        "[2, 4]",
    ),
    "subprocess": (
        "import subprocess\nsubprocess.run(['echo', 'hi'], capture_output=True, text=True).stdout",
        "'hi\\n'",
    ),
    "child interpreter": (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import numpy; print(numpy.arange(3).sum())'], "
        "capture_output=True, text=True).stdout",
        "'3\\n'",
    ),
    "temporary files": (
        "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f:\n"
        "    f.write('x'); f.seek(0); r = f.read()\nr",
        "'x'",
    ),
    "asyncio": (
        "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 9\nasyncio.run(f())",
        "9",
    ),
    "pickle of a class of its own": (
        "import pickle\nclass P:\n    x = 1\ntype(pickle.loads(pickle.dumps(P()))).__name__",
        "'P'",
    ),
    "dataclasses": (
        "from dataclasses import dataclass\n@dataclass\nclass D:\n    a: int\nD(1)",
        "D(a=1)",
    ),
    "shared memory": (
        "from multiprocessing import shared_memory\n"
        "s = shared_memory.SharedMemory(create=True, size=100); s.buf[0] = 7; r = s.buf[0]\n"
        "s.close(); s.unlink()\nr",
        "7",
    ),
    "modules of its own": ("open('mine.py', 'w').write('x = 8')\nimport mine\nmine.x", "8"),
    "umlauts": ("open('Größe.txt', 'w').write('ä')\nopen('Größe.txt').read()", "'ä'"),
    "user name": ("import getpass\ngetpass.getuser()", "'user'"),
    "standard input is empty": ("import sys\nsys.stdin.read()", "''"),
    "hash and uuid": ("import hashlib, uuid\nlen(uuid.uuid4().hex + hashlib.sha256(b'').hexdigest())", "96"),
    "csv and json": (
        "import csv, io, json\njson.dumps(list(csv.reader(io.StringIO('a,b'))))",
        '\'[["a", "b"]]\'',
    ),
    "no value after an assignment": ("x = 5", ""),
    "none is no value": ("None", ""),
}


@pytest.mark.parametrize("name", sorted(PROGRAMMES))
async def test_programme(name: str, session: NamespaceSession) -> None:
    code, value = PROGRAMMES[name]
    result = await session.execute(code, timeout=20)
    assert result.outcome == "ok", result.error
    assert result.value == value
    assert result.stderr == ""


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


async def test_no_fonts_are_searched_in_child_processes(session: NamespaceSession) -> None:
    code = (
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', "
        "'import matplotlib.font_manager'], capture_output=True, text=True).stderr"
    )
    result = await session.execute(code, timeout=20)
    assert result.value == "''"


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
