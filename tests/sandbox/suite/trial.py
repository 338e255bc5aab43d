"""Attacks, tried: with a look at the host, the peer and the next session.

Each in a session of its own, or those of a group one after the other in one session for as long as that stays
exactly as it was.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pythonic_assistant.agent.check_room import VARIABLES, CheckRoom
from pythonic_assistant.agent.workspace import Workspace
from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.ports import NO_ACCESS, SandboxSession
from tests.sandbox.suite.arena import Arena, Way
from tests.sandbox.suite.attack import Attack, programme
from tests.sandbox.suite.attacks import egress
from tests.sandbox.suite.judging import HOST_SECONDS, judge, judge_files, words_after
from tests.sandbox.suite.portrait import difference, portrait, state

_GROWTH = 96 << 20  # of our own memory, over one attack: a message, its copies and its text


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
        async with await arena.sandbox.open() as session:
            return cls(arena, await portrait(session))

    async def run(self, attack: Attack) -> Outcome:
        """Try one attack in a session of its own; whatever goes wrong is its outcome."""
        began = time.monotonic()
        memory = _own_memory()
        try:
            if attack.checked:
                through, trouble = await self._work_and_check(attack)
            else:
                through, trouble = await self._attack(attack)
            if not trouble:
                looked, trouble = await self._in_the_next_session(attack)
                through = looked if attack.look else through
            trouble = _both(trouble, await self._arena.harm(), _grown(memory))
        except Exception as error:  # noqa: BLE001  (an attack that makes the host raise is an outcome)
            through, trouble = False, _failure(error)
        return _outcome(attack, began, through, trouble)

    async def run_together(self, attacks: Iterable[Attack]) -> AsyncIterator[Outcome]:
        """Try attacks that can share a session (`attacks.for_one_session`) in as few as their groups need.

        After each, the host and the peer are looked at, and the session itself: once anything of it has
        changed, the next attack gets another one. After the end of a session come the looks that need it: at
        the next session, at descriptors and memory. What they find is told with the last attack.
        """
        for _, members in itertools.groupby(attacks, key=lambda attack: attack.group):
            waiting = deque(members)
            while waiting:
                memory = _own_memory()
                tried: list[Outcome] = []
                try:
                    await self._share(waiting, tried)
                    _, trouble = await self._in_the_next_session(None)
                    trouble = _both(trouble, await self._arena.harm(), _grown(memory))
                except Exception as error:  # noqa: BLE001  (as above)
                    trouble = _failure(error)
                if not tried:  # there was no session
                    tried.append(_outcome(waiting.popleft(), time.monotonic(), False, trouble))
                elif trouble:
                    names = ", ".join(outcome.attack for outcome in tried)
                    tried[-1] = replace(
                        tried[-1], trouble=_both(tried[-1].trouble, f"{trouble} (after {names})")
                    )
                for outcome in tried:
                    yield outcome

    async def _share(self, waiting: deque[Attack], tried: list[Outcome]) -> None:
        """Open a session, and try those that wait in it until it is not as it was."""
        async with await self._open(waiting[0]) as session:
            fresh = await state(session)
            while waiting:
                attack = waiting.popleft()
                began = time.monotonic()
                try:
                    through, trouble = await self._tried(session, attack)
                    trouble = _both(trouble, await self._arena.harm(alive=1))
                    whole = not trouble and await self._is_as(session, fresh, attack)
                except Exception as error:  # noqa: BLE001  (as above)
                    through, trouble, whole = False, _failure(error), False
                tried.append(_outcome(attack, began, through, trouble))
                if not whole:
                    return

    async def _is_as(self, session: SandboxSession, fresh: str, attack: Attack) -> bool:
        """Whether the next attack meets what a fresh session would be; its way out must be open, too."""
        if (way := self._way(attack)) is not None:
            await way.ensure_open(session)
        try:
            return await state(session) == fresh
        except (RuntimeError, SandboxDiedError):
            return False

    def _way(self, attack: Attack) -> Way | None:
        return self._arena.way if attack.group == egress.GROUP else None

    async def _open(self, attack: Attack) -> SandboxSession:
        way = self._way(attack)
        return await self._arena.sandbox.open(
            inputs=self._arena.inputs,
            limits=SandboxLimits(**attack.limits),
            access=NO_ACCESS if way is None else way.access,
        )

    async def _tried(self, session: SandboxSession, attack: Attack) -> tuple[bool, str]:
        code = programme(attack.code, self._arena.given)
        async with asyncio.timeout(attack.seconds + HOST_SECONDS):
            result = await session.execute(code, timeout=attack.seconds)
        return judge(attack, result, SandboxLimits(**attack.limits))

    async def _attack(self, attack: Attack) -> tuple[bool, str]:
        session = await self._open(attack)
        try:
            through, trouble = await self._tried(session, attack)
            if attack.forged and not trouble:
                trouble = await words_after(session)
            if attack.collects and not trouble:
                trouble = await self._collected(session)
        finally:
            async with asyncio.timeout(HOST_SECONDS):
                await session.close()
        return through, trouble

    async def _in_the_next_session(self, attack: Attack | None) -> tuple[bool, str]:
        """Say whether the next session is as the first was, and whether it has what an attack planted."""
        async with await self._arena.sandbox.open() as session:
            if (found := await portrait(session)) != self._portrait:
                return False, f"the next session is not clean: {difference(self._portrait, found)}"
            if attack is None or not attack.look:
                return False, ""
            result = await session.execute(programme(attack.look, self._arena.given), timeout=10)
        return judge(replace(attack, forged=False, death=()), result, SandboxLimits())

    async def _work_and_check(self, attack: Attack) -> tuple[bool, str]:
        """Run the code as the work of a task, and look from where the checks of its answer run."""
        work = programme(attack.code, self._arena.given)
        check = programme(attack.checked, self._arena.given)
        folder = Path(tempfile.mkdtemp(prefix="checked-"))
        try:
            async with (
                asyncio.timeout(2 * attack.seconds + HOST_SECONDS),
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
            async with asyncio.timeout(HOST_SECONDS):
                artifacts = await session.collect(into)
            return judge_files(artifacts, into, self._arena.folder / "secret.txt")
        finally:
            shutil.rmtree(into)


def _outcome(attack: Attack, began: float, through: bool, trouble: str) -> Outcome:
    return Outcome(
        attack=attack.name,
        group=attack.group,
        through=through,
        trouble=trouble,
        seconds=time.monotonic() - began,
    )


def _both(*troubles: str) -> str:
    return "; ".join(trouble for trouble in troubles if trouble)


def _failure(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"the host was held up for more than {HOST_SECONDS:g} seconds"
    return f"the host failed: {type(error).__name__}: {error}"


def _grown(before: int) -> str:
    grown = _own_memory() - before
    return f"our memory grew by {grown >> 20} MiB" if grown > _GROWTH else ""


def _own_memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
