"""Which kills are made, and which of them fall on the same task."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.drill.points import (
    AFTER_A_DEATH,
    ANYWHERE,
    POINTS,
    RESTORED,
    RUNNER_FAILED,
    TAKEN_BACK,
    Kind,
    Mission,
    Moment,
    Point,
    Who,
    every_mission,
)

MOST = 6
"""Kills of one task."""
SERVICES: tuple[Who, ...] = ("database", "gateway", "lite")
_ALL = {point.place: point for point in (*POINTS, *AFTER_A_DEATH)}


@dataclass
class Chain:
    """The kills of one task, and what kind of task it is."""

    missions: list[Mission] = field(default_factory=list[Mission])
    kinds: set[Kind] = field(default_factory=lambda: {"quiet", "asking"})

    def takes(self, mission: Mission) -> bool:
        """Whether one more kill can fall on this task and be what it is said to be."""
        if len(self.missions) >= MOST or any(one.place == mission.place for one in self.missions):
            return False
        return bool(self.kinds & set(mission.point.kinds))

    def add(self, mission: Mission) -> None:
        """Take it."""
        self.missions.append(mission)
        self.kinds &= set(mission.point.kinds)

    @property
    def kind(self) -> Kind:
        """Quiet, unless something is wanted that only an asking task comes to."""
        return "quiet" if "quiet" in self.kinds else "asking"


def chains(missions: Sequence[Mission]) -> list[Chain]:
    """Put missions together, so that a task is killed several times on its way."""
    made: list[Chain] = []
    for mission in missions:
        if mission.point in AFTER_A_DEATH:
            made.append(Chain())
            for one in (_companion(mission.point), mission):
                made[-1].add(one)
            continue
        chain = next((one for one in made if one.takes(mission)), None)
        if chain is None:
            chain = Chain()
            made.append(chain)
        chain.add(mission)
    return made


def _companion(point: Point) -> Mission:
    """The death after which there is such a place."""
    if point == RUNNER_FAILED:
        return Mission(_ALL["event code_written"], "during", "runner")
    if point == TAKEN_BACK:
        return Mission(_ALL["event plan_made"], "after", "worker")
    assert point == RESTORED
    return Mission(_ALL["effect begun"], "after", "worker")


def short() -> tuple[list[Mission], list[Mission]]:
    """A kill at every point, and 60 or more: those of workers and runners, and those of services.

    A worker's start takes seconds of a processor, so it is killed where it alone holds something.
    """
    people: list[Mission] = []
    for number, point in enumerate(POINTS):
        if "runner" in point.dies:
            people.append(Mission(point, "during", "runner"))
        elif point.place not in _OF_SERVICES:
            people.append(
                Mission(point, ("after", "before")[number % 2] if point.written else "during", "worker")
            )
    held: list[tuple[str, Moment]] = [
        ("effect begun", "before"), ("effect begun", "after"), ("effect acted", "during"),
        ("effect recorded", "before"), ("effect recorded", "after"), ("event step_finished", "after"),
    ]  # fmt: skip
    people += [Mission(_ALL[place], moment, "worker") for place, moment in held]
    people += [Mission(_ALL["effect begun"], "after", "machine")]
    people += [Mission(point, "after", "worker") for point in AFTER_A_DEATH]
    for place in (
        "effect begun",
        "effect acted",
        "effect recorded",
        "event step_finished",
        "event plan_made",
    ):
        people.append(Mission(_ALL[place], "during", "runner"))
    people += [Mission(ANYWHERE, "during", "runner") for _ in range(6)]
    services = [Mission(_ALL[place], "during", who) for place, dies in _OF_SERVICES.items() for who in dies]
    return people, services


_OF_SERVICES: dict[str, tuple[Who, ...]] = {
    "waiting for a person": ("gateway", "lite"),
    "event run_waiting": ("database",),
    "decision": ("database",),
    "effect begun": ("database",),
    "effect acted": ("database",),
    "effect recorded": ("database",),
    "event plan_made": ("database",),
    "event step_finished": ("database",),
    "file uploaded": ("database", "lite"),
    "event artifact_saved": ("database",),
    "event variable_saved": ("database",),
    "event run_succeeded": ("database",),
    "claim": ("database",),
    "finish": ("database",),
}


def long(kills: int, chance: random.Random) -> list[tuple[list[Mission], list[Mission]]]:
    """Rounds of everything, a quarter of it at random, until there are so many kills."""
    rounds: list[tuple[list[Mission], list[Mission]]] = []
    left = kills
    while left > 0:
        missions = every_mission((*POINTS, *AFTER_A_DEATH))
        chance.shuffle(missions)
        missions = missions[:left]
        everywhere = [
            Mission(ANYWHERE, "during", chance.choice(ANYWHERE.dies))
            for _ in range(min(left, len(missions) // 3))
        ]
        missions = (missions + everywhere)[:left]
        chance.shuffle(missions)
        left -= len(missions)
        services = [one for one in missions if one.who in SERVICES]
        rounds.append(([one for one in missions if one.who not in SERVICES], services))
    return rounds
