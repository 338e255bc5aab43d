"""Schedules: what a person said, and what a worker is to do next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

MissedPolicy = Literal["skip", "catch_up_once"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """Words that name times again and again.

    Attributes:
        cron: five fields.
    """

    cron: str
    kind: Literal["recurring"] = "recurring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """Words that name one moment.

    Attributes:
        at: aware, in the zone in which the words were meant.
    """

    at: datetime
    kind: Literal["once"] = "once"


When = Recurring | Once


@dataclass(frozen=True, slots=True, kw_only=True)
class DueSchedule:
    """A schedule that needs a plan: it is due, or nobody has computed yet when it will be.

    Attributes:
        planned_from: due times after this one count.
        stamp: `planned_from` as the database wrote it. A plan names it: one for former times is refused.
        next_at: the due time that has come; None where none was computed.
    """

    id: str
    cron: str
    time_zone: str
    missed: MissedPolicy
    planned_from: datetime
    stamp: str
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePlan:
    """What is to be done with one schedule, in one transaction, if it is still as it was seen.

    Attributes:
        next_at: its next due time; None only with a problem.
        due_at: the due time to make a task for; None to make none.
        note: words added to the prompt.
        skipped: how many due times pass without a task.
        skipped_at: the last of them.
        problem: why it cannot be planned at all.
    """

    due: DueSchedule
    next_at: datetime | None = None
    due_at: datetime | None = None
    note: str = ""
    skipped: int = 0
    skipped_at: datetime | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleLook:
    """What the database answers.

    Attributes:
        now: its clock, which is the only one that counts.
        due: schedules that need a plan.
        outcomes: what became of each plan, by the schedule's id: fired, planned, problem; or, with nothing
            changed, stale, busy or gone.
        next_due_seconds: until the next due time; None when there is none.
    """

    now: datetime
    due: tuple[DueSchedule, ...]
    outcomes: tuple[tuple[str, str], ...]
    next_due_seconds: float | None
