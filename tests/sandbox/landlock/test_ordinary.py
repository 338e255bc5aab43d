"""What ordinary code finds where there are no namespaces, and what it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.errors import SandboxUnavailableError
from pythonic_assistant.domain.files import InputFile

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROGRAMMES = {
    "data frame": """
import pandas as pd
pd.DataFrame({'a': [1, 2]}).to_csv('x.csv'); pd.read_csv('x.csv').a.sum()
""",
    "parquet": """
import pandas as pd
pd.DataFrame({'a': [3]}).to_parquet('x.pq'); pd.read_parquet('x.pq').a.sum()
""",
    "excel": """
import pandas as pd
pd.DataFrame({'a': [3]}).to_excel('x.xlsx'); pd.read_excel('x.xlsx').a.sum()
""",
    "plot": """
import matplotlib.pyplot as p
p.plot([1, 2]); p.savefig('x.png'); len(open('x.png', 'rb').read()) > 1000
""",
    "database": """
import sqlite3
d = sqlite3.connect('x.db'); d.execute('create table t (a)'); d.commit(); d.close(); 1
""",
    "archive": """
import zipfile
zipfile.ZipFile('x.zip', 'w').writestr('a', 'b')
zipfile.ZipFile('x.zip').extractall('o'); open('o/a').read()
""",
    "temporary file": """
import tempfile
with tempfile.NamedTemporaryFile('w+') as f: f.write('x'); f.flush(); s = open(f.name).read()
s
""",
    "temporary folder": """
import os, tempfile
with tempfile.TemporaryDirectory() as d: open(d + '/f', 'w').close(); s = os.listdir(d)
s
""",
    "time zone": """
import datetime, zoneinfo
datetime.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin')).utcoffset().seconds
""",
    "threads": """
from concurrent.futures import ThreadPoolExecutor as T
with T(4) as t: r = sum(t.map(abs, range(9)))
r
""",
    "asyncio": """
import asyncio
asyncio.run(asyncio.sleep(0, 5))
""",
    "child process": """
import subprocess, sys
subprocess.run([sys.executable, '-c', 'print(6)'], capture_output=True, text=True, check=True).stdout
""",
    "shell": """
import subprocess
subprocess.run('echo a | tr a b > f && cat f', shell=True, capture_output=True, text=True).stdout
""",
    "copying with modes": """
import shutil
open('a', 'w').write('x')
shutil.copy2('a', 'b'); shutil.copytree('.', '../tmp/c'); open('../tmp/c/b').read()
""",
    "renaming between folders": """
import os
open('r', 'w').close(); os.mkdir('q'); os.replace('r', 'q/r'); os.listdir('q')
""",
    "module of its own": """
open('mine.py', 'w').write('a = 7')
import mine
mine.a
""",
    "home": """
import os, pathlib
pathlib.Path.home() == pathlib.Path.cwd() and os.path.expanduser('~') == os.getcwd()
""",
    "user": """
import getpass
getpass.getuser()
""",
    "processors": """
import os
os.cpu_count() > 0 and len(os.sched_getaffinity(0)) > 0
""",
    "named mapping": """
import mmap
open('m', 'wb').write(bytes(4096))
with open('m', 'r+b') as f: m = mmap.mmap(f.fileno(), 0); m[0] = 9
open('m', 'rb').read(1)
""",
    "random numbers": """
import secrets, uuid
len(secrets.token_hex()) + len(str(uuid.uuid4()))
""",
    "pair of sockets": """
import socket
a, b = socket.socketpair(); a.send(b'x'); b.recv(1)
""",
    "pipe between processes": """
import multiprocessing as m
a, b = m.Pipe(); a.send(4); b.recv()
""",
}


def _given(path: Path, name: str) -> InputFile:
    kind = "application/octet-stream"
    return InputFile(name=name, path=path, media_type=kind, bytes=path.stat().st_size)


@pytest.mark.parametrize("name", sorted(PROGRAMMES))
async def test_works(name: str, session: NamespaceSession) -> None:
    result = await session.execute(PROGRAMMES[name], timeout=20)
    assert result.outcome == "ok", result.error
    assert result.value not in ("", "False", "None")


async def test_network_is_refused_at_once(session: NamespaceSession) -> None:
    code = "import urllib.request\nurllib.request.urlopen('http://example.com', timeout=5)"
    result = await session.execute(code, timeout=5)
    assert "not permitted" in result.error or "name resolution" in result.error, result.error
    assert result.seconds < 2


@pytest.mark.parametrize("open_to_all", [True, False])
async def test_input_files_are_read_only(
    sandbox: NamespaceSandbox, tmp_path: Path, open_to_all: bool
) -> None:
    path = tmp_path / "given.csv"
    path.write_text("a,b\n1,2\n")
    path.chmod(0o644 if open_to_all else 0o600)
    beside = tmp_path / "beside.csv"
    beside.write_text("not given")
    async with await sandbox.open(inputs=[_given(path, "data.csv")]) as session:
        assert (await session.execute("open('inputs/data.csv').read()", timeout=5)).value == r"'a,b\n1,2\n'"
        for code in (
            "open('inputs/data.csv', 'a')",
            "import os; os.truncate('inputs/data.csv', 0)",
            f"open({str(beside)!r})",
            "open(__import__('os').path.realpath('inputs/data.csv') + '/../beside.csv')",
        ):
            assert (await session.execute(code, timeout=5)).outcome == "error", code
        await session.execute("open('out', 'w').close()", timeout=5)
        found = await session.collect(tmp_path / "results")
    assert [entry.name for entry in found] == ["out"]
    assert path.read_text() == "a,b\n1,2\n"


async def test_large_input_is_not_copied(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    path.chmod(0o644)
    for folder in tmp_path.parents:
        if not folder.stat().st_mode & 1:
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    async with await sandbox.open(inputs=[_given(path, path.name)]) as session:
        result = await session.execute("import os; os.stat('inputs/large.bin').st_size", timeout=5)
        assert result.value == str(1 << 30)


async def test_large_input_that_would_have_to_be_copied_is_refused(
    sandbox: NamespaceSandbox, tmp_path: Path
) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(300 << 20)
    path.chmod(0o600)
    opening = sandbox.open(inputs=[_given(path, path.name)])
    async with await sandbox.open() as session:
        await session.execute("1", timeout=5)
    if sandbox.details["users"] == "one":
        async with await opening as session:
            assert (
                await session.execute("open('inputs/large.bin', 'rb').read(1)", timeout=5)
            ).value == r"b'\x00'"
    else:
        with pytest.raises(SandboxUnavailableError, match="may be copied"):
            await opening
