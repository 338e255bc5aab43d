"""The set-up, for real in folders of its own: a tiny project, a wheel made here, no network."""

from __future__ import annotations

import ast
import base64
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from installation import steps
from installation.causes import SetupError, explain

PROJECT = Path(__file__).resolve().parents[2]
FAKE_NPM = """#!/bin/sh
echo "npm $*" >> "$PWD/npm.calls"
if [ -e "$PWD/npm.fails" ]; then cat "$PWD/npm.fails"; exit 1; fi
rm -rf node_modules; mkdir node_modules
"""


def make_wheel(folder: Path, name: str, version: str) -> str:
    """Write a wheel with one module; returns its SHA-256."""
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows: list[str] = []
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{file},sha256={hashed},{len(text)}")
        record = f"{name}-{version}.dist-info/RECORD"
        wheel.writestr(record, "\n".join([*rows, f"{record},,"]) + "\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Sandbox:
    """A folder with the real set-up code around a project of one package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        self.bin = folder / "bin"
        self.node = folder / "project" / "embedded_supabase"
        self.project = folder / "project"
        for place in (self.wheels, self.bin, self.node):
            place.mkdir(parents=True)
        shutil.copy(PROJECT / "bootstrap.py", self.project)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / "installation", self.project / "installation", ignore=ignored)
        self.lock("1.0", make_wheel(self.wheels, "tinypackage", "1.0"))
        (self.node / "package-lock.json").write_text("{}")
        (self.project / "requirements-node.lock").write_text("")
        (self.project / "main.py").write_text(
            "import sys, tinypackage\nprint('running', tinypackage.VERSION, sys.argv[1:])\nsys.exit(3)\n"
        )
        # The project itself is built without a build system of ours: a hook that needs nothing else.
        (self.project / "pyproject.toml").write_text(
            "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        )
        (self.project / "backend.py").write_text(BACKEND)
        self.programme("node", "#!/bin/sh\necho v24.0.0\n")
        self.programme("npm", FAKE_NPM)

    def lock(self, version: str, sha256: str) -> None:
        text = f"tinypackage=={version} \\\n    --hash=sha256:{sha256}\n"
        (self.project / "requirements.lock").write_text(text)

    def programme(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "PATH": f"{self.bin}{os.pathsep}/usr/bin:/bin",
            "HOME": str(self.folder),
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": str(self.wheels),
            **extra,
        }
        return subprocess.run(
            [sys.executable, "bootstrap.py", *arguments],
            cwd=self.project,
            env=environ,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "tinyproject-1.0-py3-none-any.whl"
    info = "tinyproject-1.0.dist-info"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: tinyproject\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
build_wheel = build_editable
"""


def test_a_first_start_a_second_and_what_changes_and_failures_do(tmp_path: Path) -> None:
    """One story, because making a virtual environment takes seconds."""
    place = Sandbox(tmp_path)

    (place.node / "npm.fails").write_text("npm error code ENOTFOUND\n")
    failed = place.run("run")
    assert failed.returncode == 1
    assert "npm failed. A download failed: check the network" in failed.stderr
    assert "Traceback" not in failed.stderr

    (place.node / "npm.fails").unlink()
    first = place.run("run", "--flag")
    assert first.returncode == 3, first.stderr
    assert first.stdout == "running 1.0 ['--flag']\n"
    assert "[1/2] Installing Node.js packages" in first.stderr, "what was done before is kept"
    assert "[2/2] Installing the project itself: done" in first.stderr
    assert (place.node / "npm.calls").read_text() == "npm ci --omit=dev\n" * 2

    second = place.run("run")
    assert second.returncode == 3
    assert second.stderr == "", "nothing is left to do"

    place.lock("2.0", make_wheel(place.wheels, "tinypackage", "2.0"))
    assert place.run("run").stdout == "running 2.0 []\n"

    make_wheel(place.wheels, "tinypackage", "3.0")
    place.lock("3.0", "0" * 64)
    spoiled = place.run("run")
    assert spoiled.returncode == 1
    assert "not the file that the lock names" in spoiled.stderr
    place.lock("4.0", "0" * 64)
    absent = place.run("run")
    assert absent.returncode == 1
    assert "cannot be had from the configured source" in absent.stderr

    place.lock(
        "2.0", hashlib.sha256((place.wheels / "tinypackage-2.0-py3-none-any.whl").read_bytes()).hexdigest()
    )
    (place.project / ".venv" / "bin" / "python").unlink()
    mended = place.run("run")
    assert mended.stdout == "running 2.0 []\n", mended.stderr
    assert "[1/4] Making the Python environment" in mended.stderr


def test_two_set_ups_in_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    place = Sandbox(tmp_path)
    with (place.project / "installation" / "steps.py").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, "bootstrap.py", "run"], cwd=place.project, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        line = second.stderr.readline()
        assert second.poll() is None, "it waits"
        second.terminate()
        second.wait(timeout=10)
        second.stderr.close()
    assert line == "Another set-up is at work in this folder; waiting for its end.\n"
    assert not (place.project / ".venv").exists()


def test_unknown_commands_are_answered_with_the_usage(tmp_path: Path) -> None:
    for arguments in ((), ("fly",), ("exec",)):
        done = Sandbox(tmp_path / str(len(arguments)) / "".join(arguments)).run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("Usage: bootstrap.py run")


def test_a_full_disk_is_said_before_anything_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(PROJECT)._replace(free=200_000_000)
    monkeypatch.setattr(steps, "missing", lambda dev, peers: [("never", pytest.fail)])
    monkeypatch.setattr(steps, "read_stamp", dict)
    monkeypatch.setattr(steps.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SetupError, match=r"0\.2 GB left, and the set-up needs about 1\.5 GB"):
        steps.set_up(dev=False)


def test_a_python_without_venv_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(steps, "PYTHON", str(tmp_path / "none"))
    monkeypatch.setattr(steps.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="python3-venv"):
        steps.make_venv(steps.Progress(1))


def test_an_old_python_can_read_the_entry_and_is_refused() -> None:
    source = (PROJECT / "bootstrap.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 6))
    check = next(number for number, node in enumerate(tree.body) if isinstance(node, ast.If))
    before = [node for node in tree.body[:check] if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [alias.name for node in before for alias in node.names] == ["sys"], (
        "nothing else comes before the check"
    )
    assert "{}.{} or later is needed" in source


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "not the file"),
        ("npm error code EINTEGRITY", "not the file"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("npm error code EACCES", "cannot be written"),
        (
            "NewConnectionError: Failed to establish a new connection\nNo matching distribution found",
            "network",
        ),
        ("npm error code EAI_AGAIN", "network"),
        ("npm error network ProxyError('Cannot connect to proxy.')", "HTTPS_PROXY"),
        ("SSLError(CERTIFICATE_VERIFY_FAILED)", "PIP_CERT"),
        ("fine\nERROR: something else\nmore", "It said: ERROR: something else"),
        ("", "It said: nothing"),
    ],
)
def test_failures_are_explained(output: str, part: str) -> None:
    assert part in explain(output)


def test_the_locks_agree_and_name_no_addresses() -> None:
    def pins(name: str) -> set[str]:
        lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
        # Without markers: one that development adds for a platform widens that of a package shared with it.
        return {line.removesuffix(" \\").partition(" ;")[0] for line in lines if line[:1].isalnum()}

    for lock in ("requirements.lock", "requirements-node.lock"):
        assert pins(lock) <= pins("requirements-dev.lock"), f"{lock} differs: run `make lock`"
    ours = {pin.partition("==")[0] for pin in pins("requirements-dev.lock")}
    shared = {pin for pin in pins("requirements-bench.lock") if pin.partition("==")[0] in ours}
    assert shared <= pins("requirements-dev.lock"), "benchmarks would bring other versions: run `make lock`"
    for lock in (
        "requirements.lock",
        "requirements-node.lock",
        "requirements-bench.lock",
        "requirements-dev.lock",
    ):
        text = (PROJECT / lock).read_text(encoding="utf-8")
        assert "://" not in text
        assert text.count("--hash=sha256:") >= len(pins(lock)) > 0
    assert '"resolved"' not in (PROJECT / "embedded_supabase" / "package-lock.json").read_text(
        encoding="utf-8"
    )
