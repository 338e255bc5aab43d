"""A Supabase, workers, a model and an effect server, and the kills in the midst of them."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.stack import free_ports
from tests.drill.database import Database
from tests.drill.judging import faults
from tests.drill.lane import Field, Lane
from tests.drill.machines import Machine, Supabase, ordinary
from tests.drill.planning import Chain, chains
from tests.drill.points import Mission
from tests.drill.record import Book
from tests.drill.script import HOST, Gates
from tests.embedded_fixtures import temporary_state_folder
from tests.servers.effects import Effects, effects_server
from tests.servers.openai_server import TEST_MODEL, OpenAIServer

ROUNDS_OF_MISSED = 3


@dataclass
class Drill:
    """A field and its lanes."""

    field: Field
    lanes: Sequence[Lane]
    loud: bool = False

    async def make(self, missions: Sequence[Mission]) -> None:
        """Make kills, several lanes at a time; those that could not be made are tried again."""
        left = list(missions)
        for _ in range(ROUNDS_OF_MISSED):
            if not left:
                return
            waiting = chains(left)
            self.field.book.missed.clear()
            async with asyncio.TaskGroup() as group:
                for lane in self.lanes:
                    group.create_task(self._take(lane, waiting))
            left = list(self.field.book.missed)

    async def _take(self, lane: Lane, waiting: list[Chain]) -> None:
        while waiting:
            chain = waiting.pop(0)
            began = time.monotonic()
            try:
                await lane.work(chain.missions, chain.kind)
            except TimeoutError:  # the others go on; this task is found in the end, as it is
                self.field.book.stuck += 1
            if self.loud:
                told = ", ".join(f"{m.who} at {m.place} {m.moment}" for m in chain.missions)
                sys.stderr.write(
                    f"{len(self.field.book.kills):5} kills, {time.monotonic() - began:5.1f} s: {told}\n"
                )

    async def faults(self) -> list[str]:
        """What is wrong with the tasks."""
        return await faults(self.field.database, self.field.effects, self.field.book)


@asynccontextmanager
async def prepared(*, direct: int, api: int, seed: int = 1, loud: bool = False) -> AsyncIterator[Drill]:
    """Start everything, and leave nothing behind.

    Args:
        direct: workers that reach the queue on PostgreSQL itself.
        api: workers that reach it over the API.
    """
    gates = Gates()
    supabase = Supabase(temporary_state_folder())
    with (
        tempfile.TemporaryDirectory() as place,
        OpenAIServer(gates.script, key="sk-test") as model,
        effects_server(Path(place)) as effects,
    ):
        database: Database | None = None
        machines: list[Machine] = []
        try:
            await supabase.start()
            database = Database(supabase.said["database_url"])
            await database.prepare()
            for number in range(direct + api):
                machines.append(_machine(f"lane-{number}", supabase, model, effects, direct=number < direct))
                await machines[-1].start()
            field = Field(supabase, database, effects, gates, Book(), random.Random(seed))
            lanes = [
                Lane(field, machine, "direct" if number < direct else "api")
                for number, machine in enumerate(machines)
            ]
            yield Drill(field, lanes, loud)
        finally:
            await asyncio.gather(*(machine.stop() for machine in machines))
            if database is not None:
                await database.close()
            await supabase.stop()


def _machine(
    label: str, supabase: Supabase, model: OpenAIServer, effects: Effects, *, direct: bool
) -> Machine:
    home = temporary_state_folder()
    environment = ordinary() | {
        "PYTHONIC_HOME": str(home),
        "PYTHONIC_API_PORT": str(free_ports()["PYTHONIC_API_PORT"]),
        "PYTHONIC_SLOTS": "1",
        "PYTHONIC_LABELS": label,
        "PYTHONIC_PRIVATE_HOSTS": f"{HOST}={effects.url}",
        "SUPABASE_URL": supabase.said["url"],
        "SUPABASE_PUBLISHABLE_KEY": supabase.keys["publishable_key"],
        "SUPABASE_SECRET_KEY": supabase.keys["secret_key"],
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": model.url,
        "PYTHONIC_MODEL": TEST_MODEL,
        "DRILL_EFFECTS_URL": effects.url,
    }
    if direct:
        environment["SUPABASE_DB_URL"] = supabase.said["database_url"]
    return Machine(label, home, environment)
