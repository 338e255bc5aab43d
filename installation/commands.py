"""The commands that run in the set-up folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from installation.causes import SetupError
from installation.places import ROOT, environment
from installation.steps import set_up

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def need_browser() -> None:
    """Find Chromium for the tests of the page, or install it where that is this system's custom."""
    if any(shutil.which(name) for name in CHROMIUM_NAMES):
        return
    advice = (
        "The tests of the page need Chromium: install it with this system's package manager and start again."
    )
    trouble = apt_install("chromium", "Chromium, for the tests of the page")
    if trouble is not None:
        raise SetupError(f"{trouble}{advice}")


def want_bubblewrap() -> None:
    """Find bubblewrap for one tier of the sandbox, or try to install it; without it, that tier is refused."""
    if shutil.which("bwrap"):
        return
    trouble = apt_install("bubblewrap", "bubblewrap, for the sandbox")
    if trouble is not None:
        sys.stderr.write(
            f"{trouble}The tests of the sandbox's tier bwrap fail without bubblewrap: install "
            "it with this system's package manager.\n"
        )


def apt_install(package: str, what: str) -> str | None:
    """Install a package of the system, where this is root on a system with apt.

    Returns:
        None when it is installed; else what went wrong, a sentence and a blank, or nothing where it was not
        tried.
    """
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return ""
    sys.stderr.write(f"Installing {what}, with apt-get.\n")
    quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
        done = subprocess.run(
            ["apt-get", "-q", *words], env=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode:
            sys.stderr.write(done.stdout.decode("utf-8", "replace")[-2000:])
            return f"apt-get {words[0]} failed. "
    return None


CHECK = [
    ["ruff", "format", "--check", "."],
    ["ruff", "check", "."],
    ["lint-imports"],
    ["node", os.path.join("embedded_supabase", "node_modules", "pyright", "index.js")],
]
# Two processes, because most tests wait more than they work; a third made it no quicker on two cores.
# tests/conftest.py says which run where.
TEST = [
    *("python", "-m", "pytest", "-n", "2", "--no-loadscope-reorder"),
    *("--cov", "--cov-report=term:skip-covered"),
]
COMPILE = (
    *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"),
    *("--generate-hashes", "--no-emit-index-url", "--no-header"),
)
# The development lock leads; the others are parts of it with the very same versions.
PART = (*COMPILE, "-c", "requirements-dev.lock")
COMMANDS: dict[str, list[list[str]]] = {
    "setup": [],
    "check": CHECK,
    "test": [*CHECK, TEST],
    "format": [["ruff", "format", "."], ["ruff", "check", "--fix", "."]],
    "lock": [
        [*COMPILE, "requirements-dev.in", "-o", "requirements-dev.lock"],
        [*PART, "requirements.in", "requirements-build.in", "-o", "requirements.lock"],
        [*PART, "requirements-node.in", "-o", "requirements-node.lock"],
        [*PART, "requirements-bench.in", "-o", "requirements-bench.lock"],
    ],
}
USAGE = (
    "Usage: bootstrap.py run | setup | check | test | format | lock [OPTIONS], "
    "or exec PROGRAMME [OPTIONS], or compare PROGRAMME [OPTIONS], which installs what benchmarks compare with"
)


def main(arguments: list[str]) -> int:
    """Set up, then run; the last programme replaces this one, so that signals and exit codes are its own."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    os.chdir(ROOT)
    if name == "run":
        commands = [["python", "main.py"]]
    elif name in ("exec", "compare") and rest:
        commands, rest = [rest], []
    elif name in COMMANDS:
        commands = COMMANDS[name]
    else:
        sys.stderr.write(USAGE + "\n")
        return 2
    set_up(dev=name != "run", peers=name == "compare")
    if name == "test":
        need_browser()
        want_bubblewrap()
    chosen = environment()
    for number, words in enumerate(commands):
        last = number == len(commands) - 1
        programme = shutil.which(words[0], path=chosen["PATH"])
        if programme is None:
            raise SetupError(f"{words[0]} was not found.")
        if last:
            os.execve(programme, [*words, *rest], chosen)  # noqa: S606  replaces this process on purpose
        code = subprocess.call(words, executable=programme, env=chosen)
        if code:
            return code
    return 0
