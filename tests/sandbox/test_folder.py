"""A folder of the host as the current folder: looked at, never written to. And inputs that are large."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.files import InputFile

pytestmark = pytest.mark.asyncio(loop_scope="session")
GIB = 1 << 30


def _input(name: str, path: Path) -> InputFile:
    return InputFile(name=name, path=path, media_type="text/csv", bytes=path.stat().st_size)


async def value(session: NamespaceSession, code: str) -> str:
    result = await session.execute(code, timeout=5)
    assert result.outcome == "ok", result.error
    return result.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shown"
    (made / "deep/er").mkdir(parents=True)
    (made / "inputs").mkdir()
    (made / "result.txt").write_text("result")
    (made / "deep/er/one.txt").write_text("one")
    for path in (made, made / "deep", made / "deep/er", made / "inputs"):
        path.chmod(0o700)
    (made / "result.txt").chmod(0o600)
    return made


async def test_the_folder_is_the_current_one_and_private_files_are_readable(
    sandbox: NamespaceSandbox, folder: Path
) -> None:
    async with await sandbox.open(folder=folder) as session:
        assert await value(session, "import os; os.getcwd(), sorted(os.listdir())") == repr(
            ("/scratch", ["deep", "inputs", "result.txt"])
        )
        assert await value(session, "open('result.txt').read(), open('deep/er/one.txt').read()") == repr(
            ("result", "one")
        )


@pytest.mark.parametrize(
    "attempt",
    [
        "open('new', 'w')",
        "open('result.txt', 'a')",
        "os.unlink('result.txt')",
        "os.mkdir('more')",
        "os.rename('result.txt', 'other')",
        "os.symlink('/etc/passwd', 'link')",
        "os.chmod('result.txt', 0o777)",
        "os.truncate('result.txt', 0)",
        "os.utime('result.txt', (0, 0))",
        "open('inputs/new', 'w')",
        "os.setxattr('result.txt', 'user.mark', b'x')",
    ],
)
async def test_nothing_in_it_can_be_changed(sandbox: NamespaceSandbox, folder: Path, attempt: str) -> None:
    async with await sandbox.open(folder=folder) as session:
        code = f"import os\ntry: {attempt}; r = 'done'\nexcept OSError as e: r = e.errno\nr"
        assert await value(session, code) == "30"  # EROFS
        assert (
            await value(session, "open('/tmp/mine', 'w').write('x'), open('/tmp/mine').read()") == "(1, 'x')"
        )
        assert await value(session, "os.path.expanduser('~')") == "'/tmp'"
    assert (folder / "result.txt").read_text() == "result"
    assert sorted(path.name for path in folder.iterdir()) == ["deep", "inputs", "result.txt"]


async def test_inputs_appear_in_the_folder_and_not_on_the_host(
    sandbox: NamespaceSandbox, folder: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given.csv"
    given.write_text("a,b\n1,2\n")
    given.chmod(0o600)
    async with await sandbox.open(folder=folder, inputs=[_input("in put.csv", given)]) as session:
        assert await value(session, "open('inputs/in put.csv').read()") == repr("a,b\n1,2\n")
        assert await value(session, "open('result.txt').read()") == "'result'"
        written = await session.execute("open('inputs/in put.csv', 'a')", timeout=5)
        assert "OSError: [Errno 30]" in written.error
    assert list((folder / "inputs").iterdir()) == []


async def test_without_a_place_for_inputs_the_folder_is_refused(
    sandbox: NamespaceSandbox, folder: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given.csv"
    given.write_text("a")
    inputs = [_input("given.csv", given)]
    (folder / "inputs").rmdir()
    with pytest.raises(InvalidInputError, match="no folder `inputs`"):
        await sandbox.open(folder=folder, inputs=inputs)
    (folder / "inputs").symlink_to("/tmp")
    with pytest.raises(InvalidInputError, match="no folder `inputs`"):
        await sandbox.open(folder=folder, inputs=inputs)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        await sandbox.open(folder=tmp_path / "missing")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        await sandbox.open(folder=given)


async def test_links_in_the_folder_lead_nowhere_on_the_host(
    sandbox: NamespaceSandbox, folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (folder / "out").symlink_to(secret)
    (folder / "up").symlink_to("../secret.txt")
    async with await sandbox.open(folder=folder) as session:
        for name in ("out", "up", "../secret.txt"):
            result = await session.execute(f"open({name!r}).read()", timeout=5)
            assert "FileNotFoundError" in result.error


async def test_several_sessions_share_one_folder(sandbox: NamespaceSandbox, folder: Path) -> None:
    async with await sandbox.open(folder=folder) as one, await sandbox.open(folder=folder) as other:
        assert await value(one, "open('result.txt').read()") == "'result'"
        assert await value(other, "open('result.txt').read()") == "'result'"


async def test_an_input_of_a_gibibyte_is_shown_without_being_copied(
    sandbox: NamespaceSandbox, tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(GIB)
        file.seek(GIB - 3)
        file.write(b"end")
    spent: list[float] = []
    for _ in range(5):
        began = time.monotonic()
        async with await sandbox.open(inputs=[_input("large.bin", large)]) as session:
            spent.append(time.monotonic() - began)
            code = "import os\nf = open('inputs/large.bin', 'rb'); f.seek(-3, 2)\nf.read(), f.tell()"
            assert await value(session, code) == f"(b'end', {GIB})"
            free = await value(
                session, "s = os.statvfs('.'); (s.f_blocks - s.f_bfree) * s.f_frsize < 1 << 20"
            )
            assert free == "True"
    assert min(spent) < 0.1


async def test_descriptors_of_folders_do_not_leak(sandbox: NamespaceSandbox, folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        async with await sandbox.open(folder=folder):
            pass
        (folder / "inputs").chmod(0o700)
    with pytest.raises(InvalidInputError):
        await sandbox.open(folder=folder, inputs=[_input("x", folder)])
    assert len(os.listdir("/proc/self/fd")) == before
