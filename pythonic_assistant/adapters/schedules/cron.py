"""Cron expressions in time zones, as Debian's cron means them (cronsim).

A time that the clocks leave out in spring is due right after the gap; one that they show twice in autumn is
due the first time. Expressions that count hours or minutes, such as `*/30 * * * *`, go on as real time does.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import dropwhile, islice
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from pythonic_assistant.domain.errors import InvalidInputError

_FIELDS: Final = 5
_MOST_CHARACTERS: Final = 200
_NAMED: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EXAMPLE: Final = "Write minute, hour, day of the month, month and day of the week, such as 0 8 * * 1-5."


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """Names of zones by their lower case; to look them up anew walks through hundreds of files."""
    return {name.lower(): name for name in available_timezones() - {"localtime", "posixrules", "Factory"}}


def zone_names() -> tuple[str, ...]:
    """The time zones to choose from by name, sorted."""
    return tuple(sorted(name for name in _zones().values() if "/" in name or name == "UTC"))


def read_zone(name: str) -> ZoneInfo:
    """Return the zone of a name such as Europe/Berlin, whatever its case.

    Raises:
        InvalidInputError: there is none of this name.
    """
    wanted = name.strip().lower()
    if wanted in _zones():
        return ZoneInfo(_zones()[wanted])
    by_end = {known.rpartition("/")[2].lower(): known for known in zone_names()}
    near = difflib.get_close_matches(wanted.rpartition("/")[2].replace(" ", "_"), by_end, 1, 0.75)
    hint = f"Did you mean {by_end[near[0]]}?" if near else "Write it like Europe/Berlin."
    raise InvalidInputError(f"There is no time zone {name.strip()[:100]!r}. {hint}")


def read_cron(text: str) -> str:
    """Return the five fields of an expression, with one blank between them.

    Raises:
        InvalidInputError: it is none, or no date ever fits it.
    """
    fields = _NAMED.get(text.strip().lower(), text).upper().split()
    shown = " ".join(text.split())[:100]
    if len(fields) != _FIELDS or len(" ".join(fields)) > _MOST_CHARACTERS:
        raise InvalidInputError(f"{shown!r} is no cron expression of five fields. {_EXAMPLE}")
    cron = " ".join(fields)
    try:
        found = next(CronSim(cron, datetime.now(UTC)), None)
    except (CronSimError, AssertionError, ValueError) as error:
        # cronsim asserts what it thinks it has checked, such as in "*/2/L".
        what = str(error).removeprefix("Bad ")
        field = f"its {what} is wrong" if isinstance(error, CronSimError) else "it cannot be read"
        raise InvalidInputError(f"{shown!r} is no cron expression: {field}. {_EXAMPLE}") from error
    if found is None:
        raise InvalidInputError(f"No date ever fits {shown!r}: choose another day or month.")
    return cron


def times_after(cron: str, zone: ZoneInfo, moment: datetime) -> Iterator[datetime]:
    """All due times after a moment, in order, in the zone."""
    return _real(CronSim(cron, moment.astimezone(zone)), zone)


def times_until(cron: str, zone: ZoneInfo, moment: datetime) -> Iterator[datetime]:
    """All due times up to a moment and at it, the latest first."""
    # CronSim goes back from before the second that it is given; from one later, it begins in the next minute
    # when this one is nearly over.
    times = _real(CronSim(cron, moment.astimezone(zone) + timedelta(seconds=1), reverse=True), zone)
    return dropwhile(lambda time: time > moment, times)


def next_times(cron: str, zone: ZoneInfo, moment: datetime, count: int = 5) -> tuple[datetime, ...]:
    """The next due times."""
    return tuple(islice(times_after(cron, zone, moment), count))


def in_words(cron: str) -> str:
    """An expression in words: "At 08:00 on Monday through Friday"."""
    return CronSim(cron, datetime.now(UTC)).explain()


def _real(times: Iterator[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Each moment as the clocks show it."""
    return (moment.astimezone(UTC).astimezone(zone) for moment in times)
