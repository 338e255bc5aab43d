"""One attack, tried: in a session of its own, with a look at the host, the peer and the next session."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pythonic_assistant.agent.check_room import VARIABLES, CheckRoom
from pythonic_assistant.agent.workspace import Workspace
from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.ports import SandboxSession
from tests.sandbox.suite.arena import Arena
from tests.sandbox.suite.attack import Attack, programme
from tests.sandbox.suite.attacks import egress

_HOST_SECONDS = 15.0  # for the host to notice, to interrupt, to collect, to close
_GROWTH = 96 << 20  # of our own memory, over one attack: a message, its copies and its text
_MOST_FILES, _MOST_BYTES = 200, 256 << 20  # CollectLimits
_OUTPUT_SPARE = 4096
# What the next session finds: anything that differs from the first session was left by somebody.
_PORTRAIT = """
import builtins, json, os, pathlib, sys
def look(path):
    try: return sorted(os.listdir(path))
    except OSError as error: return type(error).__name__
here = os.getcwd()
text = json.dumps({
    'files': look('.'), 'tmp': look('/tmp'), 'shm': look('/dev/shm'),
    'home': look(os.path.expanduser('~')), 'hooks': [type(h).__name__ for h in sys.meta_path],
    'path': sys.path, 'environment': sorted(os.environ.items()),
    'builtins': [n for n, v in vars(builtins).items()
        if getattr(v, '__module__', '') not in ('builtins', None)],
    'processes': len([p for p in look('/proc') if p.isdigit()]),
    'descriptors': sorted(os.readlink(f'/proc/self/fd/{n}').split(':')[0]
        for n in look('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{n}')),
    'groups': os.getgroups(), 'nice': os.nice(0), 'names': sorted(os.uname()[1:2]),
})
# Where folders and users are the session's own, their names differ.
print(text.replace(here, '(here)').replace(os.environ['TMPDIR'], '(temporary)'))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an attack.

    Attributes:
        through: the code's own word that it got through.
        trouble: everything that is not as it should be; empty when the attack was stopped.
    """

    attack: str
    group: str
    through: bool
    trouble: str
    seconds: float

    @property
    def held(self) -> bool:
        """Whether it was stopped."""
        return not self.trouble


class Trial:
    """Tries attacks in one arena.

    Args:
        arena: the host's side.
        portrait: of a session before any attack.
    """

    def __init__(self, arena: Arena, portrait: str) -> None:
        self._arena = arena
        self._portrait = portrait

    @classmethod
    async def begin(cls, arena: Arena) -> Trial:
        """Draw the portrait of a fresh session."""
        return cls(arena, await _portrait(arena))

    async def run(self, attack: Attack) -> Outcome:
        """Try one attack; whatever goes wrong is its outcome."""
        began = time.monotonic()
        memory = _own_memory()
        try:
            if attack.checked:
                through, trouble = await self._work_and_check(attack)
            else:
                through, trouble = await self._attack(attack, SandboxLimits(**attack.limits))
            if attack.look and not trouble:
                through, trouble = await self._look(attack)
            if not trouble and (portrait := await _portrait(self._arena)) != self._portrait:
                trouble = f"the next session is not clean: {_difference(self._portrait, portrait)}"
            if harm := await self._arena.harm():
                trouble = f"{trouble}; {harm}".strip("; ")
            grown = _own_memory() - memory
            if grown > _GROWTH:
                trouble = f"{trouble}; our memory grew by {grown >> 20} MiB".strip("; ")
        except TimeoutError:
            through, trouble = False, f"the host was held up for more than {_HOST_SECONDS:g} seconds"
        except Exception as error:  # noqa: BLE001  (an attack that makes the host raise is an outcome)
            through, trouble = False, f"the host failed: {type(error).__name__}: {error}"
        return Outcome(
            attack=attack.name,
            group=attack.group,
            through=through,
            trouble=trouble,
            seconds=time.monotonic() - began,
        )

    async def run_in_one_session(self, attacks: Sequence[Attack]) -> dict[str, str]:
        """Try attacks one after the other in a single session; return what got through, by name."""
        wrong: dict[str, str] = {}
        async with await self._arena.sandbox.open(inputs=self._arena.inputs) as session:
            for attack in attacks:
                code = programme(attack.code, self._arena.given)
                result = await session.execute(code + "sys.stdout.flush()\n", timeout=attack.seconds)
                _, trouble = judge(attack, result, SandboxLimits())
                if trouble:
                    wrong[attack.name] = trouble
        if harm := await self._arena.harm():
            wrong["the host"] = harm
        return wrong

    async def _attack(self, attack: Attack, limits: SandboxLimits) -> tuple[bool, str]:
        place, way = self._arena, self._arena.way
        if attack.group == egress.GROUP and way is not None:
            session = await place.sandbox.open(inputs=place.inputs, limits=limits, access=way.access)
        else:
            session = await place.sandbox.open(inputs=place.inputs, limits=limits)
        try:
            async with asyncio.timeout(attack.seconds + _HOST_SECONDS):
                result = await session.execute(
                    programme(attack.code, self._arena.given), timeout=attack.seconds
                )
            through, trouble = judge(attack, result, limits)
            if attack.forged and not trouble:
                trouble = await _words_after(session)
            if attack.collects and not trouble:
                trouble = await self._collected(session)
        finally:
            async with asyncio.timeout(_HOST_SECONDS):
                await session.close()
        return through, trouble

    async def _look(self, attack: Attack) -> tuple[bool, str]:
        async with await self._arena.sandbox.open() as session:
            result = await session.execute(programme(attack.look, self._arena.given), timeout=10)
        return judge(replace(attack, forged=False, death=()), result, SandboxLimits())

    async def _work_and_check(self, attack: Attack) -> tuple[bool, str]:
        """Run the code as the work of a task, and look from where the checks of its answer run."""
        work = programme(attack.code, self._arena.given)
        check = programme(attack.checked, self._arena.given)
        folder = Path(tempfile.mkdtemp(prefix="checked-"))
        try:
            async with (
                asyncio.timeout(2 * attack.seconds + _HOST_SECONDS),
                Workspace(self._arena.sandbox, inputs=self._arena.inputs) as workspace,
            ):
                result = await workspace.execute(work, timeout=attack.seconds)
                through, trouble = judge(attack, result, SandboxLimits())
                if trouble:
                    return through, trouble
                await workspace.collect(folder)
                (folder / "inputs").mkdir(exist_ok=True)
                await workspace.save(folder / VARIABLES)
                async with CheckRoom(workspace, folder) as room:
                    return judge(attack, await room.execute(check, timeout=attack.seconds), SandboxLimits())
        finally:
            shutil.rmtree(folder)

    async def _collected(self, session: SandboxSession) -> str:
        into = Path(tempfile.mkdtemp(prefix="collected-"))
        try:
            async with asyncio.timeout(_HOST_SECONDS):
                artifacts = await session.collect(into)
            return _judge_files(artifacts, into, self._arena.folder / "secret.txt")
        finally:
            shutil.rmtree(into)


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


async def _words_after(session: SandboxSession) -> str:
    """Ask a session that lies again; only types and bounds matter."""
    try:
        async with asyncio.timeout(_HOST_SECONDS):
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


def _judge_files(artifacts: tuple[ArtifactFile, ...], into: Path, secret: Path) -> str:
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


async def _portrait(arena: Arena) -> str:
    async with await arena.sandbox.open() as session:
        result = await session.execute(_PORTRAIT, timeout=10)
    if result.outcome != "ok":
        raise RuntimeError(f"an honest session does not work: {result.error}")
    return result.stdout


def _difference(first: str, second: str) -> str:
    one, two = json.loads(first), json.loads(second)
    return ", ".join(f"{key}: {one[key]} became {two[key]}" for key in one if one[key] != two[key])


def _own_memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
