"""One worker and its tasks, one by one: each killed where its missions say, and followed to its end."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg

from embedded_supabase.supervision import STEADY_SECONDS
from tests.drill.database import Database, Stopped
from tests.drill.machines import Machine, Supabase, now
from tests.drill.points import Kind, Mission
from tests.drill.record import Book, Kill
from tests.drill.script import Gates, prompt
from tests.servers.effects import Effects

ENDED = ("succeeded", "failed", "cancelled")
GATES = (
    "model asked for a plan",
    "model asked for code",
    "model asked for a fix",
    "model asked for the answer",
)
TASK_SECONDS = 240.0
"""Far more than a task takes that is killed four times; whoever takes longer is lost."""
_PAUSE_SECONDS = 0.03
_NUMBERS = count(1001)


@dataclass
class Field:
    """What all lanes share."""

    supabase: Supabase
    database: Database
    effects: Effects
    gates: Gates
    book: Book
    chance: random.Random


@dataclass
class _Run:
    """One task on its way."""

    number: int
    task: int
    missions: dict[str, Mission]
    row: Any = None
    last: Kill | None = None
    deciding: asyncio.Task[None] | None = None
    strike_at: float | None = None
    gone: set[str] = field(default_factory=set[str])


class Lane:
    """A worker, its person, and the tasks that carry the worker's label."""

    def __init__(self, field: Field, machine: Machine, way: str) -> None:
        self._field = field
        self._machine = machine
        self._way = way
        self._people: tuple[UUID, UUID, UUID] | None = None

    async def work(self, missions: Sequence[Mission], kind: Kind) -> None:
        """Ask for a task, make the kills, and return when it has ended.

        Raises:
            TimeoutError: it does not end.
        """
        database, gates = self._field.database, self._field.gates
        if self._people is None:
            self._people = await database.person()
        person, free, asking = self._people
        number = next(_NUMBERS)
        by_place = {mission.place: mission for mission in missions}
        for place in GATES:
            if place in by_place:
                gates.close(number, place)
        held = " held" if "effect acted" in by_place else ""
        task = await database.ask(
            label=self._machine.label,
            person=person,
            assistant=free if kind == "quiet" else asking,
            text=prompt(number, kind) + held,
            places=[mission.place for mission in missions if mission.point.written],
        )
        self._field.book.tasks[task] = (number, kind)
        run = _Run(number, task, by_place)
        try:
            async with asyncio.timeout(TASK_SECONDS):
                while not await self._look(run):
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            for place in GATES:
                gates.open(number, place)
            if run.deciding is not None:
                run.deciding.cancel()
                await asyncio.wait({run.deciding})
        self._field.book.missed += run.missions.values()

    async def _look(self, run: _Run) -> bool:
        """Do what the moment asks for; True when the task has ended."""
        database = self._field.database
        (run.row,) = await database.fetch(
            "select state, attempt, failures, run_at from public.tasks where id = $1", run.task
        )
        self._follow(run)
        for stopped in await database.stopped():
            if stopped.task == run.task:
                await self._at_breakpoint(run, stopped)
                return False
        place = self._field.gates.reached(run.number, GATES)
        if place is not None:
            mission = run.missions.pop(place, None)
            if mission is not None:
                await self._strike(run, mission, f"the model's server held the request of task {run.task}")
            self._field.gates.open(run.number, place)
            return False
        state = run.row["state"]
        if "effect acted" in run.missions and state == "running" and self._acted(run):
            await self._at_the_act(run)
        elif "anywhere" in run.missions and state == "running":
            if run.strike_at is None:
                run.strike_at = now() + self._field.chance.uniform(0, 2.5)
            elif now() >= run.strike_at:
                await self._strike(run, run.missions.pop("anywhere"), "at random")
        elif state == "waiting":
            await self._waits(run)
        elif state == "scheduled" and run.row["failures"] > 1:
            # The pause after a second failure is twice as long: what is measured is the first.
            await database.value(
                "update public.tasks set run_at = now() where id = $1 and state = 'scheduled'", run.task
            )
        return state in ENDED

    def _follow(self, run: _Run) -> None:
        last = run.last
        if last is None or run.row["attempt"] <= last.base:
            return
        if last.measured:
            last.seconds = now() - last.at
        last.disturbed = self._field.book.disturbed(last.at, now())
        last.then = "a new attempt"
        run.last = None

    def _acted(self, run: _Run) -> bool:
        return any(
            json.loads(row["body"]) == {"number": run.number, "what": "request"}
            for row in self._field.effects.received()
            if row["path"].startswith("/requests")
        )

    async def _at_the_act(self, run: _Run) -> None:
        mission = run.missions.pop("effect acted")
        ask = "select state from public.effects where task_id = $1 and kind = 'request' order by id desc"
        before = await self._field.database.value(ask, run.task)
        kill = await self._strike(run, mission, "")
        after = (
            await self._field.database.value(ask, run.task)
            if mission.who in ("worker", "machine")
            else before
        )
        if (before, after) == ("started", "started"):
            kill.proof = (
                "the effect server had counted it, the ledger said started, before and after the kill"
            )

    async def _waits(self, run: _Run) -> None:
        mission = run.missions.pop("waiting for a person", None)
        if mission is not None:
            kill = await self._strike(run, mission, "")
            state = await self._field.database.value("select state from public.tasks where id = $1", run.task)
            kill.proof = "it waited before and after the kill" if state == "waiting" else ""
            return
        if run.deciding is not None and not run.deciding.done():
            return
        rows = await self._field.database.fetch(
            "select id, kind from public.approvals where task_id = $1 and state = 'pending' order by id",
            run.task,
        )
        if not rows:
            return
        decision = "approve"
        if rows[0]["kind"] == "unknown":
            decision = "happened" if self._acted(run) else "again"
            if self._field.book.kills:
                kill = next(kill for kill in reversed(self._field.book.kills) if kill.task == run.task)
                kill.then = f"asked whether it happened: {decision}"
        run.deciding = asyncio.create_task(self._decide(rows[0]["id"], decision))

    async def _decide(self, approval: int, decision: str) -> None:
        assert self._people is not None
        for _ in range(200):
            try:
                if await self._field.database.decide(self._people[0], approval, decision):
                    self._field.book.answer(decision)
            except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError):
                await asyncio.sleep(0.1)  # the database was killed, or this very decision was
            else:
                return

    async def _at_breakpoint(self, run: _Run, stopped: Stopped) -> None:
        database = self._field.database
        mission = run.missions.pop(stopped.place, None)
        if mission is None:  # its kill is made
            await database.disarm(run.task, stopped.place)
            return
        holds = mission.who in ("worker", "machine", "runner")
        kill = await self._strike(run, mission, "")
        still = any(one == stopped for one in await database.stopped()) if holds else True
        if mission.moment == "before":
            await database.end_backend(stopped.backend)
        else:
            await database.disarm(run.task, stopped.place)
        outcome = await self._outcome(run, stopped)
        await database.disarm(run.task, stopped.place)
        wanted = {"before": "aborted", "after": "committed"}.get(mission.moment, outcome)
        if still and outcome == wanted:
            kill.proof = f"transaction {stopped.transaction} stood there through the kill, then: {outcome}"
        else:
            self._field.book.missed.append(mission)  # once more: it has to be shown
        (row,) = await database.fetch("select state, attempt from public.tasks where id = $1", run.task)
        kill.base = row["attempt"]
        self._settle(run, kill, row["state"])

    async def _outcome(self, run: _Run, stopped: Stopped) -> str:
        """How the transaction ends, which lets nobody stop it at another place before it has."""
        database = self._field.database
        while (outcome := await database.outcome(stopped.transaction)) == "in progress":
            for other in await database.stopped():
                if other.transaction == stopped.transaction:
                    later = run.missions.pop(other.place, None)
                    if later is not None:
                        self._field.book.missed.append(later)
                    await database.disarm(other.task, other.place)
            await asyncio.sleep(_PAUSE_SECONDS)
        return outcome

    async def _strike(self, run: _Run, mission: Mission, proof: str) -> Kill:
        """Kill; on return the dead are dead, and a service answers again."""
        field = self._field
        kill = Kill(mission, run.task, self._way, now(), proof, base=run.row["attempt"])
        if mission.who == "runner":
            process = self._machine.runner(run.task, run.row["attempt"])
            if process is None:
                field.book.missed.append(mission)
                return kill
            process.kill()
            kill.measured = run.row["failures"] == 0
        elif mission.who in ("worker", "machine"):
            await self._machine.strike(for_good=mission.who == "machine")
        else:
            field.supabase.strike(mission.who)
            field.book.services_down.append((kill.at, kill.at + 3600))
            place = len(field.book.services_down) - 1
            await asyncio.sleep(0.1)
            await field.supabase.answers()
            field.book.services_down[place] = (kill.at, now())
            kill.seconds = now() - kill.at
            # What dies again before it was steady is started again later and later, as it should be.
            kill.disturbed = field.book.disturbed(kill.at - STEADY_SECONDS, now(), but=place)
        field.book.kills.append(kill)
        self._settle(run, kill, run.row["state"])
        return kill

    def _settle(self, run: _Run, kill: Kill, state: str) -> None:
        """Follow the task from here, if it has to be claimed again."""
        if run.last is not None and run.last is not kill:
            run.last.then = "killed again before it went on"
        if kill.mission.who in ("runner", "worker", "machine") and state not in (*ENDED, "waiting"):
            run.last = kill
        else:
            run.last = None
            if state in ENDED:
                kill.then = "it had ended"
            elif state == "waiting":
                kill.then = "it went on waiting"
