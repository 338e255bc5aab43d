"""What code can import: the standard library, the installed packages, and extra ones beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pythonic_assistant.adapters.sandbox import connect_sandbox, zygote_sandbox
from pythonic_assistant.adapters.sandbox.importable import OWN, modules_in
from pythonic_assistant.adapters.sandbox.owned import OwnedSandbox
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _install(folder: Path, version: int) -> None:
    package = folder / "extra_thing"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"VERSION = {version}\n")
    (package / "__main__.py").write_text(f"print({version})\n")
    (folder / f"only_{version}.py").write_text("HERE = True\n")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _switch(packages: Path, to: str) -> None:
    link = packages / "next"
    link.symlink_to(to)
    link.rename(packages / "current")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed") / "packages"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def extended(packages: Path) -> AsyncIterator[OwnedSandbox]:
    async with zygote_sandbox(packages=packages, probe=False) as made:
        yield made


async def value(session: NamespaceSession, code: str) -> str:
    result = await session.execute(code, timeout=10)
    assert result.outcome == "ok", result.error
    return result.value


async def test_every_name_that_can_be_imported_is_told(sandbox: NamespaceSandbox) -> None:
    names = await sandbox.importable()
    assert {"json", "sqlite3", "numpy", "pandas", "matplotlib", "PIL", "dateutil", "six", "pyarrow"} <= names
    assert not names & {"numpy-2", "__pycache__", "not_there", "pythonic_assistant"}
    assert names == await connect_sandbox(sandbox.socket_path).importable()
    # What the interpreter itself would find, asked in a session.
    code = f"[n for n in {sorted(names - OWN - set(sys.stdlib_module_names))!r} if not _there(n)]"
    there = (
        "def _there(name):\n"
        "    try: return importlib.util.find_spec(name) is not None\n"
        "    except (ValueError, ImportError): return False\n"
    )
    async with await sandbox.open() as session:
        assert await value(session, "import importlib.util\n" + there + code) == "[]"
        assert await value(session, f"[__import__(n).__name__ for n in {sorted(OWN)!r}]") == str(sorted(OWN))


async def test_extra_packages_are_seen_by_sessions_that_open_after_a_switch(
    extended: OwnedSandbox, packages: Path
) -> None:
    look = "import extra_thing; extra_thing.VERSION"
    async with await extended.open() as before:
        assert "ModuleNotFoundError" in (await before.execute(look, timeout=5)).error
    assert "extra_thing" not in await extended.importable()
    _install(packages / "sets/1", 1)
    _switch(packages, "sets/1")
    assert {"extra_thing", "only_1"} <= await extended.importable()
    async with await extended.open() as first:
        _install(packages / "sets/2", 2)
        _switch(packages, str(packages / "sets/2"))  # absolute this time
        assert await value(first, look) == "1"
        assert await value(first, "import only_1; only_1.HERE") == "True"
        child = "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'extra_thing'], stdout=-1)"
        assert "stdout=b'1\\n'" in await value(first, child)
        async with await extended.open() as second:
            assert await value(second, look) == "2"
            assert "ModuleNotFoundError" in (await second.execute("import only_1", timeout=5)).error
    assert {"extra_thing", "only_2"} <= await extended.importable()
    assert "only_1" not in await extended.importable()


async def test_extra_packages_cannot_be_changed_and_do_not_hide_others(
    extended: OwnedSandbox, packages: Path
) -> None:
    _install(packages / "sets/3", 3)
    (packages / "sets/3/json.py").write_text("raise SystemExit")
    (packages / "sets/3/json.py").chmod(0o644)
    _switch(packages, "sets/3")
    async with await extended.open() as session:
        assert await value(session, "import json, decimal; json.loads('1')") == "1"
        for place in ("sets/3/new.py", "current/extra_thing/__init__.py"):
            result = await session.execute(f"open({str(packages / place)!r}, 'w')", timeout=5)
            assert "PermissionError" in result.error or "Read-only" in result.error


async def test_broken_links_are_no_packages(extended: OwnedSandbox, packages: Path) -> None:
    _switch(packages, "sets/missing")
    async with await extended.open() as session:
        assert await value(session, "import sys, os; 'PYTHONPATH' in os.environ") == "False"
    assert "json" in await extended.importable()


async def test_modules_are_found_as_the_interpreter_finds_them(tmp_path: Path) -> None:
    for name in (
        "a.py",
        "b.cpython-311-x86_64-linux-gnu.so",
        "c.abi3.so",
        "d-1.dist-info",
        "e.txt",
        "f g.py",
    ):
        (tmp_path / name).touch()
    for name in ("package", "g-h", "__pycache__", "i.dist-info"):
        (tmp_path / name).mkdir()
    (tmp_path / "k.pth").write_text("/somewhere")
    assert modules_in([tmp_path, tmp_path / "missing"]) == {"a", "b", "c", "package"}
    code = (
        f"import sys, pkgutil; print(sorted(m.name for m in pkgutil.iter_modules([{os.fspath(tmp_path)!r}])))"
    )
    known = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert known.strip() == "['a', 'b', 'c', 'f g']"  # which no import statement can say
