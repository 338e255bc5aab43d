"""Installs wheels into a folder, outside of the sandbox, so that nothing of them is run: no source builds.

By the pip of this environment, with its settings (PIP_INDEX_URL and others).
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import keyword
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pythonic_assistant.domain.errors import ConfigurationError, InvalidInputError

_SECONDS = 900.0
_MOST_COMPLAINT = 600
_CONFLICT = "The conflict is caused by:"
# Dependency specifiers as the packaging user guide has them, without addresses ("@ https://...") and
# without environment markers: what is asked for here is asked for on this machine.
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSION = r"(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9][A-Za-z0-9.!+*_-]*"
_REQUIREMENT = re.compile(
    rf"({_NAME})\s*(\[\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\])?\s*({_VERSION}(?:\s*,\s*{_VERSION})*)?", re.ASCII
)
_PIP = ("-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--only-binary", ":all:")


def requirement(text: str) -> tuple[str, str]:
    """Check what a person asked for.

    Returns:
        The normalized name (packaging user guide), and the requirement without blanks.

    Raises:
        InvalidInputError: it is not a name with, at most, extras and versions.
    """
    found = _REQUIREMENT.fullmatch(text.strip())
    if found is None:
        raise InvalidInputError(
            f"{text[:80]!r} is no package: write its name, with extras and versions if you like, such as "
            "tabulate, 'xlsxwriter>=3' or 'requests[socks]==2.32.3'. Addresses, files and options are not "
            "taken."
        )
    return normalized(found[1]), re.sub(r"\s", "", text)


def normalized(name: str) -> str:
    """Return a name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


async def install(wanted: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Install what is asked for and what that needs, except what this environment has.

    Args:
        wanted: requirements.
        folder: empty; gets the modules.

    Returns:
        What was installed, as `name==version`.

    Raises:
        ConfigurationError: there is no such wheel, it contradicts what is there, or pip cannot work.
    """
    constraints = folder.parent / "constraints.txt"
    constraints.write_text("".join(f"{line}\n" for line in _environment()), encoding="utf-8")
    report = folder.parent / "report.json"
    await _pip("--dry-run", "--report", str(report), "-c", str(constraints), "--", *wanted)
    needed = _needed(json.loads(report.read_text(encoding="utf-8")))
    if not needed:
        return ()
    # Exactly what was found out, by its digest: nothing can be put in its place in between.
    lock = folder.parent / "lock.txt"
    lock.write_text("".join(f"{line} {digest}\n" for line, digest in needed.items()), encoding="utf-8")
    await _pip("--no-deps", "--require-hashes", "--no-compile", "--target", str(folder), "-r", str(lock))
    return tuple(needed)


def modules(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the top-level modules of each distribution in a folder, by `name==version`."""
    found: dict[str, tuple[str, ...]] = {}
    for distribution in importlib.metadata.distributions(path=[str(folder)]):
        names: dict[str, None] = {}
        for file in distribution.files or ():
            first, *deeper = file.parts
            if file.suffix in (".py", ".so"):
                names[first if deeper else first.partition(".")[0]] = None
        public = [name for name in names if _is_public(name) and not name.endswith(".dist-info")]
        found[f"{distribution.name}=={distribution.version}"] = tuple(sorted(public))
    return found


def _is_public(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def _environment() -> list[str]:
    """Return what is installed here: sessions have it, so nothing may ask for another version of it."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        found.setdefault(normalized(distribution.name), f"{distribution.name}=={distribution.version}")
    return sorted(found.values())


def _needed(report: Mapping[str, Any]) -> dict[str, str]:
    """Return each distribution that would be installed, with its digest as pip takes it."""
    found: dict[str, str] = {}
    for entry in cast("list[dict[str, Any]]", report["install"]):
        metadata = entry["metadata"]
        digests: dict[str, str] = entry["download_info"].get("archive_info", {}).get("hashes", {})
        if "sha256" not in digests:
            raise ConfigurationError(f"pip tells no digest of {metadata['name']}: use a newer pip.")
        found[f"{metadata['name']}=={metadata['version']}"] = f"--hash=sha256:{digests['sha256']}"
    return found


async def _pip(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *_PIP,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            said, _ = await process.communicate()
    except BaseException as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise ConfigurationError(
                f"pip did not end within {_SECONDS:g} seconds; nothing was changed."
            ) from error
        raise
    if process.returncode:
        raise ConfigurationError(f"Nothing was changed, because pip failed: {_complaint(said)}")


def _complaint(said: bytes) -> str:
    """Return what pip says went wrong, without its advice to read more."""
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if _CONFLICT in lines:
        block = lines[lines.index(_CONFLICT) + 1 :]
        errors = errors[:1] + block[: block.index("") if "" in block else None]
    told = errors or [line for line in lines if line][-1:] or ["it did not say why"]
    return "; ".join(line.rstrip(".") for line in told)[:_MOST_COMPLAINT] + "."
