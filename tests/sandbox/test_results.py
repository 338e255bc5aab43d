"""What is taken out of a session, and what is left there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox import connect_sandbox
from pythonic_assistant.adapters.sandbox.collect import CollectLimits
from pythonic_assistant.adapters.sandbox.inputs import OpenInput, open_inputs
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.files import InputFile

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _input(path: Path, name: str) -> InputFile:
    return InputFile(name=name, path=path, media_type="text/plain", bytes=path.stat().st_size)


async def test_files_come_out_whole(session: NamespaceSession, tmp_path: Path) -> None:
    code = (
        "import os\nos.makedirs('sub/deep')\nopen('sub/deep/ä b.csv', 'w').write('a,b\\n')\n"
        "open('x.bin', 'wb').write(bytes(range(256)) * 5000)"
    )
    assert (await session.execute(code, timeout=5)).outcome == "ok"
    found = {a.name: a for a in await session.collect(tmp_path / "out")}
    assert set(found) == {"sub/deep/ä b.csv", "x.bin"}
    content = found["x.bin"].path.read_bytes()
    assert content == bytes(range(256)) * 5000
    assert found["x.bin"].sha256 == hashlib.sha256(content).hexdigest()
    assert found["x.bin"].bytes == len(content)
    assert found["sub/deep/ä b.csv"].media_type == "text/csv"
    assert found["sub/deep/ä b.csv"].path == tmp_path / "out" / "sub/deep/ä b.csv"
    assert session.skipped == ()


async def test_tricks_are_left_out(session: NamespaceSession, tmp_path: Path) -> None:
    code = """
import os, socket
open('plain.txt', 'w').write('plain')
os.symlink('/etc/passwd', 'link.txt')
os.symlink('/', 'rootlink')
os.symlink('/proc/self/environ', 'magic.txt')
os.symlink('.', 'loop')
open('one.txt', 'w').write('two names'); os.link('one.txt', 'two.txt')
open('.hidden', 'w').write('hidden')
os.mkdir('.cache'); open('.cache/x', 'w').write('x')
s = socket.socket(socket.AF_UNIX); s.bind('sock')
try:
    os.mkfifo('pipe')
except PermissionError:
    pass
open('bad\\nname', 'w').write('x')
open('bogus.png', 'w').write('not a picture')
"""
    assert (await session.execute(code, timeout=5)).outcome == "ok"
    found = {a.name: a for a in await session.collect(tmp_path)}
    assert set(found) == {"plain.txt", "bogus.png"}
    assert found["bogus.png"].media_type == "application/octet-stream"
    assert len(session.skipped) == 1
    assert "characters that cannot be shown" in session.skipped[0]


async def test_folder_swapped_for_a_link_while_collecting(session: NamespaceSession, tmp_path: Path) -> None:
    code = """
import os, threading
os.mkdir('real'); open('real/passwd', 'w').write('mine')
def swap():
    while True:
        try:
            os.rename('real', 'kept'); os.symlink('/etc', 'real')
            os.unlink('real'); os.rename('kept', 'real')
        except OSError: pass
threading.Thread(target=swap, daemon=True).start()
"""
    assert (await session.execute(code, timeout=5)).outcome == "ok"
    for turn in range(20):
        for artifact in await session.collect(tmp_path / str(turn)):
            assert artifact.path.read_text() in ("mine", "")


async def test_caps_are_told(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    caps = CollectLimits(file_bytes=1000, total_bytes=1500, files=3)
    session = await connect_sandbox(sandbox.socket_path, collect_limits=caps).open()
    code = (
        "for n, s in (('a', 900), ('b', 2000), ('c', 900), ('d', 10), ('e', 10), ('f', 10)):\n"
        "    open(n, 'wb').write(bytes(s))"
    )
    await session.execute(code, timeout=5)
    found = await session.collect(tmp_path)
    assert [a.name for a in found] == ["a", "d", "e"]
    assert len(session.skipped) == 3
    assert "for one file" in session.skipped[0]
    assert "for all files" in session.skipped[1]
    assert "only 3 files" in session.skipped[2]
    await session.close()


async def test_results_outlive_a_dead_session(session: NamespaceSession, tmp_path: Path) -> None:
    result = await session.execute("open('left.txt', 'w').write('left')\nimport os; os._exit(1)", timeout=5)
    assert result.outcome == "died"
    assert [a.name for a in await session.collect(tmp_path)] == ["left.txt"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
async def test_inputs_are_bound_read_only(sandbox: NamespaceSandbox, tmp_path: Path, mode: int) -> None:
    given = tmp_path / "given.csv"
    given.write_text("a,b\n1,2\n")
    given.chmod(mode)
    session = await sandbox.open(inputs=[_input(given, "Zahlen 2026.csv"), _input(given, "again.csv")])
    read = await session.execute("open('inputs/Zahlen 2026.csv').read()", timeout=5)
    assert read.value == repr("a,b\n1,2\n"), read.error
    for attempt in (
        "open('inputs/again.csv', 'w')",
        "os.remove('inputs/again.csv')",
        "os.chmod('inputs/again.csv', 0o777)",
        "os.rename('inputs', 'gone')",
        "open('inputs/new', 'w')",
        "os.truncate('inputs/again.csv', 0)",
    ):
        assert (await session.execute(f"import os; {attempt}", timeout=5)).outcome == "error", attempt
    # bound, not copied: the session's file system has no copy, and sees what the host has
    source = await session.execute("import os; os.statvfs('inputs/again.csv').f_files", timeout=5)
    folder = await session.execute("os.statvfs('inputs').f_files", timeout=5)
    assert source.value != folder.value
    assert given.read_text() == "a,b\n1,2\n"
    assert await session.collect(tmp_path / "out") == ()
    await session.close()


@pytest.mark.parametrize("replaced", [False, True])
async def test_file_that_cannot_be_bound_is_copied(
    sandbox: NamespaceSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """What was opened counts: whatever stands at its path later is never shown instead."""
    given = tmp_path / "given.txt"
    given.write_text("what was given")
    given.chmod(0o600)

    def open_and_lose(inputs: Sequence[InputFile]) -> list[OpenInput]:
        opened = open_inputs(inputs)
        given.unlink()
        if replaced:
            given.write_text("something else")
        return opened

    monkeypatch.setattr("pythonic_assistant.adapters.sandbox.sandbox.open_inputs", open_and_lose)
    async with await sandbox.open(inputs=[_input(given, "a.txt")]) as session:
        result = await session.execute("open('inputs/a.txt').read()", timeout=5)
        assert result.value == "'what was given'", result.error
        assert (await session.execute("open('inputs/a.txt', 'w')", timeout=5)).outcome == "error"


async def test_input_on_another_file_system(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    """Whatever file system it is on: shared memory is one that differs from the disk."""
    place = Path("/dev/shm") / f"pythonic-test-{tmp_path.name}"
    place.write_text("from memory")
    place.chmod(0o600)
    try:
        session = await sandbox.open(inputs=[_input(place, "m.txt")])
        assert (await session.execute("open('inputs/m.txt').read()", timeout=5)).value == "'from memory'"
        await session.close()
    finally:
        place.unlink()


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".env", "a/b", "../x", "nul\0", "new\nline", "x" * 256, "\ud800"]
)
async def test_names_that_lie_are_refused(sandbox: NamespaceSandbox, tmp_path: Path, name: str) -> None:
    given = tmp_path / "given.txt"
    given.write_text("x")
    with pytest.raises(InvalidInputError, match="rename the file"):
        await sandbox.open(inputs=[_input(given, name)])


async def test_inputs_that_are_no_files_are_refused(sandbox: NamespaceSandbox, tmp_path: Path) -> None:
    import os

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(InvalidInputError, match="not a regular file"):
        await sandbox.open(inputs=[_input(fifo, "a.txt")])
    with pytest.raises(InvalidInputError, match="not a regular file"):
        await sandbox.open(inputs=[_input(tmp_path, "a.txt")])
    with pytest.raises(InvalidInputError, match="given twice"):
        plain = tmp_path / "p"
        plain.write_text("")
        await sandbox.open(inputs=[_input(plain, "a"), _input(plain, "a")])
