"""Tier unsafe: no walls, and it says so; work, limits and endings are as in the others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pythonic_assistant.adapters.sandbox import connect_sandbox, open_sandbox
from pythonic_assistant.adapters.sandbox.owned import OwnedSandbox
from pythonic_assistant.adapters.sandbox.probe import ensure_isolated
from pythonic_assistant.domain.errors import SandboxUnavailableError
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import SandboxLimits

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def unsafe() -> AsyncIterator[OwnedSandbox]:
    async with open_sandbox(wanted="unsafe") as made:
        yield made


async def test_it_is_called_by_its_name_wherever_it_shows(unsafe: OwnedSandbox) -> None:
    assert unsafe.tier == "unsafe"
    assert unsafe.details["tier"] == "unsafe"
    assert connect_sandbox(unsafe.socket_path).tier == "unsafe"
    assert "WITHOUT walls" in unsafe.note
    assert "PYTHONIC_SANDBOX=auto" in unsafe.note


async def test_it_has_no_walls_and_the_self_test_sees_that(unsafe: OwnedSandbox, tmp_path: Path) -> None:
    """What makes sure that the self-test has teeth, too."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the host's")
    async with await unsafe.open() as session:
        result = await session.execute(f"open({str(secret)!r}).read()", timeout=5)
        assert result.value == '"the host\'s"'
    with pytest.raises(SandboxUnavailableError, match="does not isolate") as caught:
        await ensure_isolated(unsafe)
    for hole in (
        "read a file",
        "read the environment",
        "connect to a port",
        "signal a process",
        "write outside",
    ):
        assert hole in str(caught.value)


async def test_ordinary_work_inputs_and_results(unsafe: OwnedSandbox, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("a\n1\n2\n")
    given = InputFile(name="in.csv", path=source, media_type="text/csv", bytes=source.stat().st_size)
    async with await unsafe.open(inputs=[given]) as session:
        result = await session.execute(
            "import pandas as pd\nframe = pd.read_csv('inputs/in.csv')\nframe.to_csv('out.csv')\n"
            "int(frame.a.sum())",
            timeout=20,
        )
        assert result.value == "3", result.error
        assert (await session.execute("while True: pass", timeout=0.3)).outcome == "timeout"
        assert (await session.execute("len(frame)", timeout=5)).value == "2"
        found = await session.collect(tmp_path / "out")
    assert [file.name for file in found] == ["out.csv"]


async def test_it_does_not_get_the_environment_of_its_owner(unsafe: OwnedSandbox) -> None:
    os.environ["PYTHONIC_TEST_SECRET"] = "not for sessions"
    try:
        async with await unsafe.open() as session:
            result = await session.execute("import os; sorted(os.environ)", timeout=5)
    finally:
        del os.environ["PYTHONIC_TEST_SECRET"]
    assert "'HOME'" in result.value
    assert "SECRET" not in result.value


async def test_limits_hold_for_code_that_means_no_harm(unsafe: OwnedSandbox) -> None:
    limits = SandboxLimits(memory_bytes=200 << 20, open_files=64)
    async with await unsafe.open(limits=limits) as session:
        result = await session.execute("x = bytearray(900 << 20)", timeout=10)
        assert "MemoryError" in result.error or "200 MiB" in result.error


async def test_a_closed_session_leaves_no_process_and_no_folder(unsafe: OwnedSandbox) -> None:
    async with await unsafe.open() as session:
        shown = await session.execute(
            "import os, subprocess\np = subprocess.Popen(['sleep', '600'])\nprint(p.pid, os.getcwd())",
            timeout=5,
        )
        pid, folder = shown.stdout.split()
        assert Path(folder).is_dir()
        assert Path(f"/proc/{pid}").exists()
    async with asyncio.timeout(5):
        while Path(f"/proc/{pid}").exists() or Path(folder).exists():
            await asyncio.sleep(0.02)
