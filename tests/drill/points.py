"""The named points of a task's path, and who is killed at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Who = Literal["runner", "worker", "machine", "database", "gateway", "lite"]
"""A `machine` is a worker that does not come back as itself: another one has to take over what it held."""
Moment = Literal["before", "after", "during"]
"""Before: the kill falls, then the transaction is ended: it is not written. After: the kill falls, then the
transaction ends well: it is written, and who was killed never learned of it. During: in the midst of it."""
Kind = Literal["quiet", "asking"]
"""Quiet tasks act freely; those that ask wait for a person's yes on their way."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place on the path.

    Attributes:
        place: a row's trigger, a request of the model, a line of the effect server, or a state.
        order: roughly, within a task.
        dies: who can be killed there.
        written: whether a transaction stops there.
        outlives: whether that transaction can end well when who asked for it is dead.
        kinds: tasks that come to it.
    """

    place: str
    order: int
    dies: tuple[Who, ...]
    written: bool = True
    outlives: bool = True
    kinds: tuple[Kind, ...] = ("quiet", "asking")


@dataclass(frozen=True, slots=True)
class Mission:
    """One kill that is to be made."""

    point: Point
    moment: Moment
    who: Who

    @property
    def place(self) -> str:
        """Where."""
        return self.point.place


HOLDER: tuple[Who, ...] = ("worker", "machine", "database")
ANY: tuple[Who, ...] = ("worker", "runner", "machine", "database")
EVERYBODY: tuple[Who, ...] = ("worker", "machine", "database", "gateway", "lite")
ASKING: tuple[Kind, ...] = ("asking",)

POINTS: tuple[Point, ...] = (
    Point("claim", 10, HOLDER),
    Point("event run_started", 20, ANY),
    Point("event item_added", 21, ANY),
    Point("event model_called", 22, ANY),
    Point("model asked for a plan", 23, ("worker", "runner", "machine"), written=False),
    Point("event model_replied", 24, ANY),
    Point("event plan_made", 26, ANY),
    Point("event step_started", 28, ANY),
    Point("model asked for code", 29, ("worker", "runner", "machine"), written=False),
    Point("event code_written", 30, ANY),
    Point("event output_written", 31, ANY),
    Point("event code_executed", 32, ANY),
    Point("event step_finished", 33, ANY),
    Point("model asked for a fix", 35, ("worker", "runner", "machine"), written=False),
    Point("effect asked for", 40, HOLDER, kinds=ASKING),
    Point("event run_waiting", 41, HOLDER, kinds=ASKING),
    Point("task put aside", 42, HOLDER, kinds=ASKING),
    Point("waiting for a person", 43, EVERYBODY, written=False, kinds=ASKING),
    Point("decision", 44, ("worker", "database"), kinds=ASKING),
    Point("effect begun", 50, ANY),
    Point("effect acted", 51, ANY, written=False),
    Point("effect recorded", 52, ANY),
    Point("event egress_requested", 53, ANY),
    Point("event tool_called", 54, ANY),
    Point("event verification_started", 60, ANY),
    Point("event check_executed", 61, ANY),
    Point("model asked for the answer", 62, ("worker", "runner", "machine"), written=False),
    # Storage gives an upload up with its caller. Uploaded without an event: that is before the next point.
    Point("file uploaded", 70, EVERYBODY, outlives=False),
    Point("event artifact_saved", 71, HOLDER),
    Point("event variable_saved", 72, HOLDER),
    Point("event run_succeeded", 80, HOLDER),
    Point("finish", 81, HOLDER),
)
RUNNER_FAILED = Point("failure recorded", 90, HOLDER)
TAKEN_BACK = Point("task taken back", 91, HOLDER)
RESTORED = Point("event step_restored", 92, ANY)
AFTER_A_DEATH: tuple[Point, ...] = (RUNNER_FAILED, TAKEN_BACK, RESTORED)
ANYWHERE = Point("anywhere", 0, ("runner", "worker", "machine", "database", "gateway", "lite"), written=False)


def every_mission(points: Sequence[Point]) -> list[Mission]:
    """Each point with each one that can die there, a worker before and after what is written."""
    return [
        Mission(point, moment, who)
        for point in points
        for who in point.dies
        for moment in _moments(point, who)
    ]


def _moments(point: Point, who: Who) -> tuple[Moment, ...]:
    if not point.written or who not in ("worker", "machine"):
        return ("during",)
    return ("before", "after") if point.outlives else ("before",)
