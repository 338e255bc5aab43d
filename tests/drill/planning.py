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

MOST = 4
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
        if not self.kinds & set(mission.point.kinds):
            return False
        both = [*self.missions, mission]
        runners = [one for one in both if one.who == "runner"]
        # The queue's pause after a first failure is measured, so a runner is the first to be killed.
        return not runners or (
            len(runners) == 1 and all(one is runners[0] or one.point.order > runners[0].point.order for one in both)
        )

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
    """At least one kill at every point, 60 and more: those of workers and runners, and those of services."""
    people: list[Mission] = []
    moments: tuple[Moment, Moment] = ("after", "before")
    for number, point in enumerate((*POINTS, *AFTER_A_DEATH)):
        moment = moments[number % 2] if point.written else "during"
        people.append(Mission(point, moment, "worker"))
    for place in (
        "event run_started", "event item_added", "event plan_made", "event output_written", "effect begun", "effect acted",
        "effect recorded", "event check_executed", "event tool_called", "event egress_requested",
        "model asked for code", "event model_called",
    ):  # fmt: skip
        people.append(Mission(_ALL[place], "during", "runner"))
    for place in ("claim", "effect begun", "finish"):
        people.append(Mission(_ALL[place], "after", "machine"))
    people += [Mission(ANYWHERE, "during", who) for who in ("worker", "runner", "worker", "runner")]
    kills: list[tuple[str, Who]] = [
        ("claim", "database"), ("effect begun", "database"), ("effect acted", "database"),
        ("effect recorded", "database"), ("decision", "database"), ("finish", "database"),
        ("waiting for a person", "gateway"), ("file uploaded", "lite"), ("waiting for a person", "lite"),
        ("file uploaded", "gateway"),
    ]  # fmt: skip
    return people, [Mission(_ALL[place], "during", who) for place, who in kills]


def long(kills: int, chance: random.Random) -> list[tuple[list[Mission], list[Mission]]]:
    """Rounds of everything, a quarter of it at random, until there are so many kills."""
    rounds: list[tuple[list[Mission], list[Mission]]] = []
    left = kills
    while left > 0:
        missions = every_mission((*POINTS, *AFTER_A_DEATH))
        chance.shuffle(missions)
        missions = missions[:left]
        everywhere = [
            Mission(ANYWHERE, "during", chance.choice(ANYWHERE.dies)) for _ in range(min(left, len(missions) // 3))
        ]
        missions = (missions + everywhere)[:left]
        chance.shuffle(missions)
        left -= len(missions)
        services = [one for one in missions if one.who in SERVICES]
        rounds.append(([one for one in missions if one.who not in SERVICES], services))
    return rounds
