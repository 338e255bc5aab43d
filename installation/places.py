"""Where things are, what has been installed already, and the environment that programmes run in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "bin")
PYTHON = os.path.join(BIN, "python")
STAMP = os.path.join(VENV, "installed.json")
LOG = os.path.join(VENV, "installing.log")
NODE_PROJECT = os.path.join(ROOT, "embedded_supabase")
NODE_MODULES = os.path.join(NODE_PROJECT, "node_modules")
NEEDED_NODE = 22  # embedded_supabase/package.json, "engines"


def digest(*names: str) -> str:
    """One hash over files of the project."""
    total = hashlib.sha256()
    for name in names:
        with open(os.path.join(ROOT, name), "rb") as file:
            total.update(hashlib.sha256(file.read()).digest())
    return total.hexdigest()


def read_stamp() -> dict[str, str]:
    """What has been installed to its end, by name; empty when nothing or when the environment is broken."""
    try:
        with open(STAMP, encoding="utf-8") as file:
            stamp: dict[str, str] = json.load(file)
    except (OSError, ValueError):
        return {}
    # When the system's Python was removed or replaced by a newer one, `.venv` is of no use any more.
    usable = os.path.exists(PYTHON) and stamp.get("python") == os.path.realpath(PYTHON)
    return stamp if usable else {}


def write_stamp(name: str, value: str) -> None:
    """Remember that something has been installed to its end."""
    stamp = read_stamp() | {"python": os.path.realpath(PYTHON)}
    stamp[name] = value
    with open(STAMP + ".new", "w", encoding="utf-8") as file:
        json.dump(stamp, file)
    os.replace(STAMP + ".new", STAMP)


def write_mark(path: str, value: str) -> None:
    """Write a small file that says what is installed beside it."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(value)


def read_mark(path: str) -> str:
    """Read such a file; empty when it is not there."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def environment() -> dict[str, str]:
    """Ours, with `.venv` first; settings of pip and npm stay, except those that would leave `.venv`."""
    chosen = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONHOME", "PIP_TARGET", "PIP_PREFIX")
    }
    chosen["PATH"] = BIN + os.pathsep + chosen.get("PATH", os.defpath)
    chosen["PIP_USER"] = "0"
    chosen["VIRTUAL_ENV"] = VENV
    return chosen


def find_node() -> str | None:
    """A Node.js with npm that is new enough: the machine's own, else the one in `.venv`."""
    for path in (os.environ.get("PATH", os.defpath), BIN):
        node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
        if node is None or npm is None:
            continue
        try:
            version = subprocess.check_output([node, "--version"], timeout=30).decode()
        except (OSError, subprocess.SubprocessError):
            continue
        match = re.match(r"v(\d+)\.", version)
        if match and int(match.group(1)) >= NEEDED_NODE:
            return node
    return None


def digest_of_node_lock() -> str:
    """The hash of `package-lock.json`."""
    with open(os.path.join(NODE_PROJECT, "package-lock.json"), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
