"""What a session answered, and what came out of it: whether that is as it should be."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.ports import SandboxSession
from tests.sandbox.suite.attack import Attack

HOST_SECONDS = 15.0
"""What the host may take to notice, to interrupt, to collect, to close."""
_MOST_FILES, _MOST_BYTES = 200, 256 << 20  # CollectLimits
_OUTPUT_SPARE = 4096


def judge(attack: Attack, result: Execution, limits: SandboxLimits) -> tuple[bool, str]:
    """Say whether the code claims to be through, and what is wrong with its end."""
    texts = (result.stdout, result.stderr, result.value, result.error)
    if not all(isinstance(text, str) for text in texts):
        return True, "an answer of the wrong type reached the host"
    for text in texts:
        text.encode()  # raises for text that no row could hold
    if len(result.stdout) + len(result.stderr) > 2 * (limits.output_bytes + _OUTPUT_SPARE):
        return True, f"{len(result.stdout) + len(result.stderr)} characters of output came out"
    if attack.forged:
        return False, ""
    if "THROUGH" in result.stdout:
        return True, result.stdout.strip()[:300]
    if attack.death and result.outcome == "died":
        told = any(word in result.error for word in attack.death)
        return False, "" if told else f"it ended, but was told as: {result.error.strip()[:300]}"
    if result.outcome == "ok" and result.stdout.startswith("HELD"):
        return False, ""
    return False, f"no clear end ({result.outcome}): {result.error.strip()[-300:]} {result.stdout[:100]}"


async def words_after(session: SandboxSession) -> str:
    """Ask a session that lies again; only types and bounds matter."""
    try:
        async with asyncio.timeout(HOST_SECONDS):
            again = await session.execute("1", timeout=1)
            described = await session.variables()
    except SandboxDiedError:
        return ""
    fine = isinstance(again.value, str) and all(isinstance(entry, VariableInfo) for entry in described)
    again.value.encode()
    lengths = [len(entry.name) + len(entry.type) + len(entry.summary) for entry in described]
    if not fine or any(length > 10_000 for length in lengths) or len(again.value) > 200_000:
        return "what it forged reached the host unbounded"
    return ""


def judge_files(artifacts: tuple[ArtifactFile, ...], into: Path, secret: Path) -> str:
    """Say what is wrong with files that were collected into a folder; empty when nothing is."""
    inner = into.resolve()
    text = secret.read_bytes()
    if len(artifacts) > _MOST_FILES or sum(entry.bytes for entry in artifacts) > _MOST_BYTES:
        return f"{len(artifacts)} files came out"
    for path in into.rglob("*"):
        status = path.lstat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            return f"{path.name!r} came out, which is no file"
    for entry in artifacts:
        entry.name.encode()
        if not entry.path.resolve().is_relative_to(inner):
            return f"{entry.name!r} came out at {entry.path}"
        if not entry.name.isprintable():
            return f"{entry.name!r} came out, a name that cannot be shown"
        if entry.bytes < 1 << 20 and text in entry.path.read_bytes():
            return f"{entry.name!r} holds the secret"
        if entry.path.stat().st_size != entry.bytes:
            return f"{entry.name!r} has another size than was told"
    return ""
