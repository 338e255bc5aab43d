"""Variables that outlive a session: written as plain data, read in another one, never unpickled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.errors import SandboxDiedError

pytestmark = pytest.mark.asyncio(loop_scope="session")

SIMPLE = {
    "nothing": "None",
    "yes": "True",
    "whole": "-7",
    "huge": "10 ** 400",
    "large": "2 ** 60 + 1",
    "real": "0.1",
    "infinite": "float('-inf')",
    "text": "'ü\\n\\x00 \"quoted\"'",
    "odd_text": "'a\\ud800b'",
    "listed": "[1, [2, None], 'x']",
    "pair": "(1, (2,), [])",
    "nested": "{'a': {1, 2}, 'b': ({'c': (1,)},)}",
    "by_number": "{1: 'a', (2, 3): 'b', None: 'c'}",
    "marked": "{'$': ['tuple', [1]]}",
    "odd_key": "{'\\ud800': 1}",
    "frozen": "frozenset({'a'})",
    "day": "datetime.date(2026, 2, 28)",
    "moment": "datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin'))",
    "naive": "datetime.datetime(2026, 1, 1)",
    "fixed": "datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-3.5)))",
    "clock": "datetime.time(1, 2, 3, 4)",
    "span": "datetime.timedelta(days=-1, microseconds=1)",
    "money": "decimal.Decimal('1.10')",
    "part": "fractions.Fraction(1, 3)",
    "place": "pathlib.Path('inputs/a.csv')",
    "raw": "b'\\x00\\xff'",
    "grown": "bytearray(b'ab')",
    "imaginary": "complex('-0j')",
    "steps": "range(1, 10, 3)",
    "number": "uuid.UUID(int=5)",
    "stamp": "pandas.Timestamp('2026-01-01 10:00:00.123456789', tz='Europe/Berlin')",
    "second": "pandas.Timestamp('2026-01-01').as_unit('s')",
    "delta": "pandas.Timedelta('1 days 3 ns')",
    "missing": "pandas.NA",
    "no_time": "pandas.NaT",
    "small": "numpy.float32(0.1)",
    "count": "numpy.int64(2 ** 62)",
    "when": "numpy.datetime64('2026-01-01T00:00', 'm')",
    "wide": "numpy.complex128(1 + 2j)",
    "flag": "numpy.bool_(True)",
}
IMPORTS = "import datetime, decimal, fractions, pathlib, uuid, zoneinfo\nimport numpy, pandas\n"
TOLD = (
    "def told(value):\n"
    "    if isinstance(value, (list, tuple)): return type(value).__name__, [told(v) for v in value]\n"
    "    if isinstance(value, (set, frozenset)): return type(value).__name__, sorted(map(told, value))\n"
    "    if isinstance(value, dict): return 'dict', [(told(k), told(v)) for k, v in value.items()]\n"
    "    if isinstance(value, int) and abs(value) > 10 ** 300: return hex(value)\n"
    "    unit = getattr(value, 'unit', '')\n"
    "    return type(value).__qualname__, ascii(value), unit, getattr(value, 'fold', 0)\n"
)


async def value(session: NamespaceSession, code: str) -> str:
    result = await session.execute(code, timeout=10)
    assert result.outcome == "ok", result.error
    return result.value


async def restored(sandbox: NamespaceSandbox, folder: Path) -> NamespaceSession:
    return await sandbox.open(folder=folder)


async def test_simple_values_come_back_exactly(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    into = tmp_path / ".variables"
    async with await sandbox.open() as session:
        await value(session, IMPORTS + "\n".join(f"{name} = {code}" for name, code in SIMPLE.items()))
        names = list(SIMPLE)
        before = await value(session, f"{TOLD}\n[(n, told(globals()[n])) for n in {names}]")
        saved, unsaved = await session.save(into)
        assert await value(session, "import os; os.path.exists('.variables')") == "False"
    assert [(u.name, u.reason) for u in unsaved] == []
    assert [s.name for s in saved] == names
    assert {s.media_type for s in saved} == {"application/json"}
    assert all(s.path.stat().st_size == s.bytes and s.path.parent == into for s in saved)
    async with await restored(sandbox, tmp_path) as fresh:
        assert await fresh.restore() == tuple(names)
        after = await value(fresh, f"{TOLD}\n[(n, told(globals()[n])) for n in {names}]")
    assert after == before


async def test_tables_arrays_and_pictures_come_back(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    make = """
import numpy, pandas, matplotlib.pyplot as plt
from PIL import Image
frame = pandas.DataFrame({
    "n": [1, 2, 3], "t": pandas.to_datetime(["2026-01-01", None, "2026-01-03"]), "s": ["a", None, "c"],
    "c": pandas.Categorical(["x", "y", "x"]), "i": pandas.array([1, None, 3], dtype="Int64"),
}, index=pandas.Index(["p", "q", "r"], name="key"))
many = frame.set_index(["n", "s"], append=True)
series = pandas.Series([1.5, 2.5], name="it's {odd}", index=[7, 8])
unnamed = pandas.Series([1, 2])
array = numpy.arange(6, dtype="int16").reshape(2, 3)
texts = numpy.array(["a", "bc"])
figure, axes = plt.subplots()
axes.plot([1, 2])
image = Image.new("RGB", (4, 3), (1, 2, 3))
"""
    check = """
import numpy, pandas
from pandas.testing import assert_frame_equal, assert_series_equal
"""
    async with await sandbox.open() as session:
        await value(session, make)
        saved, unsaved = await session.save(tmp_path / ".variables")
    found = {entry.name: entry for entry in saved}
    assert [u.name for u in unsaved] == ["axes"]
    assert "matplotlib" in unsaved[0].reason
    assert (found["frame"].shape, found["frame"].type) == ("3 x 5", "pandas.DataFrame")
    assert found["frame"].media_type == "application/vnd.apache.parquet"
    assert found["array"].shape == "2 x 3"
    assert found["figure"].media_type == found["image"].media_type == "image/png"
    async with await restored(sandbox, tmp_path) as fresh:
        assert set(await fresh.restore()) == set(found)
        lines = [
            f"line_{entry.name} = {entry.load.format(path='.variables/' + entry.path.name)}"
            for entry in saved
        ]
        renamed = "; ".join(f"got_{name} = {name}" for name in found)
        await value(fresh, f"{renamed}\nimport json, PIL.Image, saved, numpy, pandas\n" + "\n".join(lines))
        await value(fresh, make + check)
        for name in ("frame", "many"):
            for source in ("got", "line"):
                await value(fresh, f"assert_frame_equal({source}_{name}, {name})")
        for name in ("series", "unnamed"):
            for source in ("got", "line"):
                await value(fresh, f"assert_series_equal({source}_{name}, {name})")
        same = "numpy.array_equal(got_array, array) and got_array.dtype == array.dtype, got_texts.tolist()"
        assert await value(fresh, same) == "(True, ['a', 'bc'])"
        assert await value(fresh, "got_image.size, got_image.getpixel((0, 0))") == "((4, 3), (1, 2, 3))"
        assert await value(fresh, "got_figure.size[0] > 100") == "True"


async def test_what_cannot_be_saved_is_named_with_its_reason(
    sandbox: NamespaceSandbox, tmp_path: Path
) -> None:
    make = """
import numpy, pandas, threading, collections
def function(): pass
class Class: pass
_hidden = 1
thing = Class()
within = {"a": [thing]}
lock = threading.Lock()
objects = numpy.array([thing])
mixed = pandas.DataFrame({"a": [1, thing]})
itself = []; itself.append(itself)
lines = open("/dev/null")
counted = collections.Counter("aab")
class Hostile:
    def __reduce__(self): raise SystemExit
hostile = Hostile()
good = 1
large = numpy.zeros(9_000_000)
globals()["not a name"] = 1
globals()[5] = 1
"""
    async with await sandbox.open() as session:
        await value(session, make)
        saved, unsaved = await session.save(tmp_path)
        assert await value(session, "good") == "1"
    assert [entry.name for entry in saved] == ["good"]
    reasons = {entry.name: entry.reason for entry in unsaved}
    assert set(reasons) == {
        *("thing", "within", "lock", "objects", "mixed", "itself", "lines", "counted", "hostile", "large"),
        "not a name",
    }
    assert reasons["within"] == "it holds a Class"
    assert "Counter" in reasons["counted"]
    assert "64 MiB" in reasons["large"]
    assert "holds itself" in reasons["itself"]


async def test_names_and_totals_are_capped(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    async with await sandbox.open() as session:
        await value(session, "for n in range(230): globals()[f'v{n}'] = n")
        saved, unsaved = await session.save(tmp_path)
    assert len(saved) == 200
    assert {entry.reason for entry in unsaved} == {"only 200 variables are kept"}
    assert len(unsaved) == 31  # n among them


async def test_saving_that_takes_too_long_gives_up_that_variable_only(
    sandbox: NamespaceSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pythonic_assistant.adapters.sandbox.session.SAVE_SECONDS", 0.5)
    make = (
        "import pandas, matplotlib.figure, time\n"
        "class Slow(matplotlib.figure.Figure):\n    def savefig(self, *a, **k): time.sleep(60)\n"
        "first = 1\nslow = Slow()\nlast = 2"
    )
    async with await sandbox.open() as session:
        await value(session, make)
        saved, unsaved = await session.save(tmp_path)
        assert [entry.name for entry in saved] == ["first"]
        assert {entry.name: entry.reason for entry in unsaved} == {
            "slow": "saving it took too long",
            "last": "time was up",
        }
        assert await value(session, "first, last") == "(1, 2)"


FORGED = {
    "a path": '{"name": "x", "kind": "json", "file": "../../etc/passwd", "shape": ""}',
    "a link": '{"name": "x", "kind": "json", "file": "001.json", "shape": ""}',
    "a socket": '{"name": "x", "kind": "json", "file": "002.json", "shape": ""}',
    "another kind": '{"name": "x", "kind": "frame", "file": "003.parquet", "shape": ""}',
    "no kind": '{"name": "x", "kind": "pickle", "file": "003.pickle", "shape": ""}',
    "no file": '{"name": "x", "kind": "json", "file": "999.json", "shape": ""}',
    "a hard link": '{"name": "x", "kind": "json", "file": "004.json", "shape": ""}',
    "too large": '{"name": "x", "kind": "array", "file": "005.npy", "shape": ""}',
    "an odd name": '{"name": "x; import os", "kind": "json", "file": "000.json", "shape": ""}',
    "an odd shape": '{"name": "x", "kind": "json", "file": "000.json", "shape": "<script>"}',
    "an odd label": '{"name": "x", "kind": "series", "file": "006.parquet", "shape": "", "label": [1]}',
    "wrong types": '{"name": 1, "kind": [], "file": {}, "shape": 5, "bytes": "x"}',
    "no entry": "5",
}


@pytest.mark.parametrize("name", sorted(FORGED))
async def test_a_forged_catalogue_brings_nothing_to_the_host(
    name: str, sandbox: NamespaceSandbox, tmp_path: Path
) -> None:
    """The code answers the question itself, in the REPL's place."""
    code = f"""
import json, os, socket, struct, threading
os.mkdir(".variables"); os.chdir(".variables")
open("000.json", "w").write("1"); os.symlink("/etc/passwd", "001.json")
socket.socket(socket.AF_UNIX).bind("002.json")
open("003.parquet", "w").write("no parquet"); os.link("000.json", "004.json")
open("005.npy", "wb").truncate(65 << 20); open("006.parquet", "wb").write(b"PAR1")
os.chdir("..")
def forge():
    import time
    time.sleep(0.3)
    good = {{"name": "ok", "type": "int", "kind": "json", "file": "007.json", "shape": ""}}
    open(".variables/007.json", "w").write("7")
    answer = {{"id": 2, "ok": True, "saved": [{FORGED[name]}, good, good], "unsaved": [5, {{"name": 1}}]}}
    d = json.dumps(answer).encode()
    os.write(3, struct.pack("!I", len(d)) + d)
import shutil
shutil.rmtree = lambda *a, **k: None
os.mkdir = lambda *a, **k: None
import pathlib
pathlib.Path.mkdir = lambda *a, **k: time.sleep(1)
import time
threading.Thread(target=forge, daemon=True).start()
"""
    async with await sandbox.open() as session:
        assert (await session.execute(code, timeout=5)).outcome == "ok"
        try:
            saved, unsaved = await session.save(tmp_path / "into")
        except SandboxDiedError:
            pytest.fail("the forged answer was not taken for one")
    assert [entry.name for entry in saved] == ["ok"]
    assert saved[0].path.name == "000.json"
    assert sorted(path.name for path in (tmp_path / "into").iterdir()) == ["000.json", "catalogue.json"]
    listed = json.loads((tmp_path / "into/catalogue.json").read_text())["variables"]
    assert [entry["name"] for entry in listed] == ["ok"]
    assert len(unsaved) >= 2


async def test_damaged_files_are_left_out_and_run_nothing(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    folder = tmp_path / ".variables"
    async with await sandbox.open() as session:
        await value(session, "import numpy\na = 1; b = (2,); c = numpy.ones(3); d = 'good'")
        await session.save(folder)
    (folder / "000.json").write_text("{")
    (folder / "001.json").write_text('{"$": ["__import__", "os"]}')
    (folder / "002.npy").write_bytes(b"\x80\x04cos\nsystem\n")
    async with await restored(sandbox, tmp_path) as fresh:
        assert await fresh.restore() == ("d",)
        assert await value(fresh, "d, 'a' in globals(), 'b' in globals()") == "('good', False, False)"


async def test_without_a_catalogue_nothing_is_restored(sandbox: NamespaceSandbox) -> None:
    async with await sandbox.open() as session:
        assert await session.restore() == ()
        await session.execute("import os; os._exit(1)", timeout=5)
        with pytest.raises(SandboxDiedError):
            await session.restore()
        with pytest.raises(SandboxDiedError):
            await session.save(Path("/nonexistent"))


async def test_a_session_that_only_looks_says_why_it_saves_nothing(
    sandbox: NamespaceSandbox, tmp_path: Path
) -> None:
    (tmp_path / "shown").mkdir()
    async with await sandbox.open(folder=tmp_path / "shown") as session:
        await value(session, "a = 1")
        saved, unsaved = await session.save(tmp_path / "into")
    assert saved == ()
    assert [(entry.name, "Read-only" in entry.reason) for entry in unsaved] == [("a", True)]


async def test_a_full_disk_is_the_reason(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    async with await sandbox.open() as session:
        code = (
            "import numpy\na = numpy.ones(1_000_000)\n"
            "try: open('full', 'wb').write(bytes(600 << 20))\nexcept OSError: pass\n"
            "f = open('rest', 'wb', buffering=0)\n"
            "try:\n    while True: f.write(bytes(4096))\nexcept OSError: pass\ndel f"
        )
        await value(session, code)
        saved, unsaved = await session.save(tmp_path)
    assert saved == ()
    assert any("No space" in entry.reason for entry in unsaved)
