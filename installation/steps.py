"""The steps of the set-up: each can be interrupted and done again, and is marked only when it is whole."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

from installation.causes import SetupError, explain
from installation.places import (
    LOG,
    NEEDED_NODE,
    NODE_MODULES,
    NODE_PROJECT,
    PYTHON,
    ROOT,
    VENV,
    digest,
    digest_of_node_lock,
    environment,
    find_node,
    read_mark,
    read_stamp,
    write_mark,
    write_stamp,
)
from installation.progress import Progress

# As `bootstrap.py` says it, for the Python inside `.venv`.
NEEDED_PYTHON = (3, 11)
# Measured: .venv with Node.js 1.1 GB, node_modules 0.15 GB, and room for downloads while they are unpacked.
NEEDED_BYTES = 1500 * 1000 * 1000


PIP_INSTALL = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install"]


def run(
    command: list[str],
    progress: Progress,
    what: str,
    folder: str = ROOT,
    count: Callable[[str], str] | None = None,
) -> None:
    """Run an installer to its end, with signs of life.

    Args:
        count: called with each line of its output; returns what to show.

    Raises:
        SetupError: it failed; the sentence explains why.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise SetupError(f"{what} could not be started ({error.strerror}).") from error
    output: list[str] = []
    assert process.stdout is not None, "it is a pipe"
    try:
        for line in process.stdout:
            output.append(line.decode("utf-8", "replace"))
            progress.tell(count(output[-1]) if count else "working")
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if code:
        with open(LOG, "w", encoding="utf-8") as log:
            log.writelines(output)
        raise SetupError(f"{what} failed. {explain(''.join(output))} The whole output is in {LOG}.")


def make_venv(progress: Progress) -> None:
    """Make `.venv`, or make it anew when it is broken or was interrupted."""
    works = os.path.exists(PYTHON) and not subprocess.call(
        [PYTHON, "-c", f"import sys, pip; sys.exit(sys.version_info < {NEEDED_PYTHON!r})"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if works:
        return
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise SetupError(  # Debian takes them out of its Python
            "This Python cannot make virtual environments: on Debian and Ubuntu, run "
            "`apt-get install python3-venv` and start again."
        )
    try:
        os.makedirs(VENV, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{VENV} cannot be made ({error.strerror}).") from error
    run([sys.executable, "-m", "venv", "--clear", VENV], progress, "Making .venv")


def install_lock(lock: str, progress: Progress) -> None:
    """Install exactly what a lock names, unless that is done."""
    with open(os.path.join(ROOT, lock), encoding="utf-8") as file:
        total = len(re.findall(r"^[A-Za-z0-9].*==", file.read(), re.MULTILINE))
    seen = 0

    def count(line: str) -> str:
        nonlocal seen
        if line.startswith(("Collecting ", "Requirement already satisfied", "Ignoring ")):
            seen += 1
        return f"{seen} of {total}" if seen < total else "unpacking"

    options = ["--require-hashes", "--no-deps", "--progress-bar", "off", "--no-input", "-r", lock]
    run(
        [*PIP_INSTALL, *options],
        progress,
        "pip",
        count=count,
    )
    write_stamp(lock, digest(lock))


def need_node(progress: Progress) -> None:
    """Find a Node.js that is new enough on this machine, or install one into `.venv`."""
    if find_node() is None:
        install_lock("requirements-node.lock", progress)
    node = find_node()
    if node is None:
        raise SetupError(f"Node.js {NEEDED_NODE} with npm was not found after installing it.")
    write_stamp("node", node)


def install_node_packages(dev: bool, progress: Progress) -> None:
    """Install what `package-lock.json` names. The marks are inside, so they go when the folder goes."""
    npm = shutil.which("npm", path=environment()["PATH"]) or "npm"
    run([npm, "ci", *([] if dev else ["--omit=dev"])], progress, "npm", folder=NODE_PROJECT)
    locked = digest_of_node_lock()
    write_mark(os.path.join(NODE_MODULES, ".lock-digest"), locked)
    if dev:
        write_mark(os.path.join(NODE_MODULES, ".lock-digest-dev"), locked)


def install_project(progress: Progress) -> None:
    """Install the project itself in place, so that `.venv/bin/pythonic` exists."""
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--no-input", "-e", "."]
    run([*PIP_INSTALL, *options], progress, "pip")
    write_stamp("project", digest("pyproject.toml"))


def missing(dev: bool, peers: bool = False) -> list[tuple[str, Callable[[Progress], None]]]:
    """What is still to be done, in order: pairs of a text and a function that does it."""
    stamp = read_stamp()
    lock = "requirements-dev.lock" if dev else "requirements.lock"
    steps: list[tuple[str, Callable[[Progress], None]]] = []
    if not stamp:
        steps.append(("Making the Python environment", make_venv))
    if stamp.get(lock) != digest(lock):
        steps.append(("Installing Python packages", lambda progress: install_lock(lock, progress)))
    if not os.path.exists(stamp.get("node", "")):
        steps.append(("Finding or installing Node.js", need_node))
    mark = os.path.join(NODE_MODULES, ".lock-digest-dev" if dev else ".lock-digest")
    if read_mark(mark) != digest_of_node_lock():
        steps.append(("Installing Node.js packages", lambda progress: install_node_packages(dev, progress)))
    if stamp.get("project") != digest("pyproject.toml"):
        steps.append(("Installing the project itself", install_project))
    bench = "requirements-bench.lock"
    if peers and stamp.get(bench) != digest(bench):
        steps.append(("Installing what is compared with", lambda progress: install_lock(bench, progress)))
    return steps


def set_up(dev: bool, peers: bool = False) -> None:
    """Bring `.venv` and `node_modules` to what the locks name.

    Args:
        dev: with what tests and checks need.
        peers: with the packages that benchmarks compare with.

    Raises:
        SetupError: that failed; the message says what to do.
    """
    if not missing(dev, peers):
        return
    # This very file is locked: no other has to be made for it, and the kernel lets go however it ends.
    with open(__file__, "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write("Another set-up is at work in this folder; waiting for its end.\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
        steps = missing(dev, peers)
        if not steps:
            return
        if not os.access(ROOT, os.W_OK):
            raise SetupError(f"The folder {ROOT} cannot be written: give this user the right to.")
        free = shutil.disk_usage(ROOT).free
        if not read_stamp() and free < NEEDED_BYTES:
            raise SetupError(
                f"The disk has {free / 1e9:.1f} GB left, and the set-up needs about "
                f"{NEEDED_BYTES / 1e9:.1f} GB: make room and start again."
            )
        progress = Progress(len(steps))
        for text, step in steps:
            progress.begin(text)
            step(progress)
            progress.done()
