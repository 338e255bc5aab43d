"""What is to be done with a schedule that is due: a task now, or none, and when next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Final
from zoneinfo import ZoneInfo

from pythonic_assistant.adapters.schedules.cron import read_cron, read_zone, times_after, times_until
from pythonic_assistant.adapters.schedules.wording import moment_in_words
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.schedule import DueSchedule, SchedulePlan

ON_TIME: Final = timedelta(minutes=5)
"""A run that starts at most so late was not missed: workers are restarted, and look once a minute."""
_MOST_COUNTED: Final = 1000
_MOST_NAMED: Final = 10


def plan_of(due: DueSchedule, now: datetime) -> SchedulePlan:
    """Return what is to be done.

    Args:
        now: the database's clock.
    """
    try:
        cron, zone = read_cron(due.cron), read_zone(due.time_zone)
    except InvalidInputError as error:
        return SchedulePlan(due=due, problem=str(error))
    since = due.planned_from if due.next_at is None else due.next_at - timedelta(seconds=1)
    # The latest first, and no more of them than anybody wants to know of: a year has half a million minutes.
    passed = tuple(
        islice(takewhile(lambda moment: moment > since, times_until(cron, zone, now)), _MOST_COUNTED)
    )
    if due.next_at is not None and not passed:
        passed = (
            due.next_at,
        )  # computed by a worker that knew other rules of the zone: what was promised is kept
    following = next(times_after(cron, zone, now), None)
    if following is None:
        return SchedulePlan(due=due, problem=f"No date after now fits {due.cron!r}: change the schedule.")
    if not passed:
        return SchedulePlan(due=due, next_at=following)
    latest, earlier = passed[0], passed[1:]
    if due.missed == "catch_up_once":
        made_up = passed if earlier or now - latest > ON_TIME else ()
        return SchedulePlan(due=due, next_at=following, due_at=latest, note=_note(made_up, zone))
    if now - latest <= ON_TIME:
        skipped = earlier
        return SchedulePlan(
            due=due,
            next_at=following,
            due_at=latest,
            skipped=len(skipped),
            skipped_at=skipped[0] if skipped else None,
        )
    return SchedulePlan(due=due, next_at=following, skipped=len(passed), skipped_at=latest)


def _note(made_up: Sequence[datetime], zone: ZoneInfo) -> str:
    """What a task is told of the runs that it makes up for; the oldest first."""
    if not made_up:
        return ""
    named = ", ".join(moment_in_words(moment) for moment in reversed(made_up[:_MOST_NAMED]))
    if len(made_up) == 1:
        return f"\n\n(This run was due at {named}, {zone.key}, and could not start then.)"
    count = f"{len(made_up)} runs" if len(made_up) < _MOST_COUNTED else f"{_MOST_COUNTED} runs or more"
    which = f"due at {named}" if len(made_up) <= _MOST_NAMED else f"the last of them due at {named}"
    return f"\n\n(This task makes up for {count} that could not start in time: {which}, {zone.key}.)"
