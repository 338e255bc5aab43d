"""Additional packages: wheels of a local index, installed outside, imported inside, switched at once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox import SandboxOptions, open_sandbox
from pythonic_assistant.adapters.sandbox.packages import PackageFolder
from pythonic_assistant.adapters.sandbox.wheels import requirement
from pythonic_assistant.cli.command import main
from pythonic_assistant.cli.packages import packages
from pythonic_assistant.domain.errors import ConfigurationError, InvalidInputError
from pythonic_assistant.settings import Settings


def wheel(index: Path, name: str, version: str, files: dict[str, str], needs: tuple[str, ...] = ()) -> None:
    """Build a wheel as the binary distribution format has it."""
    information = f"{name}-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    contents = files | {
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},"
        f"{len(text.encode())}\n"
        for path, text in contents.items()
    )
    with zipfile.ZipFile(index / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
        archive.writestr(f"{information}/RECORD", f"{record}{information}/RECORD,,\n")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    wheel(folder, "pyt_greeting", "1.0", {"pyt_greeting/__init__.py": "WORD = 'old'\n"})
    second = "import pyt_base\nWORD = pyt_base.WORD\n"
    wheel(folder, "pyt_greeting", "2.0", {"pyt_greeting/__init__.py": second}, ("pyt_base>=1",))
    wheel(folder, "pyt_base", "1.5", {"pyt_base.py": "WORD = 'hello'\n"})
    wheel(folder, "pyt_broken", "1.0", {"pyt_broken.py": "import pyt_nowhere\n"})
    wheel(folder, "pyt_clash", "1.0", {"pyt_clash.py": ""}, ("numpy<1",))
    (folder / "pyt_source-1.0.tar.gz").write_bytes(b"not even looked at")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", sandbox="bwrap")


async def value(settings: Settings, expression: str) -> str:
    options = SandboxOptions(packages=settings.home / "packages", warm=1)
    async with (
        open_sandbox(wanted=settings.sandbox, options=options) as sandbox,
        await sandbox.open() as session,
    ):
        result = await session.execute(expression, timeout=10)
        return result.value or result.error


async def test_an_added_package_and_what_it_needs_can_be_imported(
    index: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await packages(settings, "list", []) == 0
    assert "No additional packages" in capsys.readouterr().out
    old = os.umask(0o077)  # as the worker's
    try:
        assert await packages(settings, "add", ["Pyt.Greeting >= 1.0"]) == 0
    finally:
        os.umask(old)
    said = capsys.readouterr().out
    assert "pyt_base==1.5" in said
    assert "pyt_greeting==2.0" in said
    assert await value(settings, "import pyt_greeting\npyt_greeting.WORD") == "'hello'"
    assert (settings.home / "packages" / "list.txt").read_text() == "Pyt.Greeting>=1.0\n"
    assert await packages(settings, "list", []) == 0
    assert "(pyt_greeting==2.0, imports as pyt_greeting)" in capsys.readouterr().out
    # Nothing of it is in the worker's own environment.
    with pytest.raises(ModuleNotFoundError):
        __import__("pyt_greeting")


async def test_sessions_from_now_on_see_a_change_and_running_ones_keep_theirs(
    index: Path, settings: Settings
) -> None:
    await packages(settings, "add", ["pyt_greeting==1.0"])
    options = SandboxOptions(packages=settings.home / "packages", warm=1)
    async with open_sandbox(wanted=settings.sandbox, options=options) as sandbox:
        async with await sandbox.open() as before:
            await before.execute("1", timeout=5)
            await packages(settings, "add", ["pyt_greeting==2.0"])
            async with await sandbox.open() as after:
                word = "import pyt_greeting\npyt_greeting.WORD"
                assert (await after.execute(word, timeout=10)).value == "'hello'"
            assert (await before.execute(word, timeout=10)).value == "'old'"
        await packages(settings, "remove", ["PYT-GREETING"])
        async with await sandbox.open() as last:
            assert "ModuleNotFoundError" in (await last.execute(word, timeout=10)).error
    assert PackageFolder(settings.home / "packages").wanted() == ()
    assert len(list((settings.home / "packages" / "versions").iterdir())) <= 2
    assert not list((settings.home / "packages").glob("stage-*"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pyt_broken", ["cannot import", "pyt_broken of pyt_broken==1.0", "No module named 'pyt_nowhere'"]),
        ("pyt_clash", ["pip failed", "pyt-clash 1.0 depends on numpy<1"]),
        ("pyt_source", ["pip failed", "pyt_source"]),
        ("pyt_missing", ["pip failed", "pyt_missing"]),
    ],
)
async def test_what_fails_changes_nothing(
    index: Path, settings: Settings, name: str, words: list[str]
) -> None:
    await packages(settings, "add", ["pyt_base"])
    folder = settings.home / "packages"
    before = os.readlink(folder / "current")
    with pytest.raises(ConfigurationError) as caught:
        await packages(settings, "add", [name])
    assert str(caught.value).startswith("Nothing was changed")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert os.readlink(folder / "current") == before
    assert PackageFolder(folder).wanted() == ("pyt_base",)
    assert not list(folder.glob("stage-*"))


async def test_a_package_of_this_installation_is_not_installed_twice(
    index: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await packages(settings, "add", ["numpy"])
    assert "nothing that is not part of this installation" in capsys.readouterr().out
    assert not list((settings.home / "packages" / "current").glob("numpy*"))
    await packages(settings, "list", [])
    assert "numpy  (part of this installation)" in capsys.readouterr().out


async def test_two_commands_at_once_are_told_apart(index: Path, settings: Settings) -> None:
    folder = settings.home / "packages"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="Another command"):
            await packages(settings, "add", ["pyt_base"])


async def test_only_what_is_there_can_be_removed(index: Path, settings: Settings) -> None:
    with pytest.raises(InvalidInputError, match=r"'pyt-base' is not among .* there is none"):
        await packages(settings, "remove", ["pyt_base"])


@pytest.mark.parametrize(
    "text",
    [
        "", "-r list.txt", "--index-url=http://evil.example", "pkg @ https://evil.example/x.whl", "./local",
        "git+https://evil.example/x", "pkg; python_version > '3'", "pkg\n--pre", "pkg==1 --pre", "pkg[",
        "../x", "pkg==", "päckchen", "pkg==1;", "-e .", "a b",
    ],
)  # fmt: skip
def test_what_is_no_plain_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="is no package: write its name"):
        requirement(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tabulate", ("tabulate", "tabulate")),
        ("XlsxWriter >= 3 , < 4", ("xlsxwriter", "XlsxWriter>=3,<4")),
        ("requests[ socks , use_chardet ]==2.32.3", ("requests", "requests[socks,use_chardet]==2.32.3")),
        ("a.b_c~=1.0.post1", ("a-b-c", "a.b_c~=1.0.post1")),
    ],
)
def test_names_with_extras_and_versions_are_taken(text: str, expected: tuple[str, str]) -> None:
    assert requirement(text) == expected


def test_the_command_says_a_mistake_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONIC_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["sandbox", "packages", "add", "--", "--index-url=x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pythonic: '--index-url=x' is no package")
    assert said.count("\n") == 1
