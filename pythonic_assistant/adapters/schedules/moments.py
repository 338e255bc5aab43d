"""Words for one moment."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from pythonic_assistant.adapters.schedules.calendar_words import DAY, DAYS, MONTH, MONTHS
from pythonic_assistant.adapters.schedules.time_of_day import DEFAULT_TIME
from pythonic_assistant.adapters.schedules.wording import moment_in_words
from pythonic_assistant.domain.errors import InvalidInputError

_IN: Final = re.compile(
    r"in (\d{1,4}) (minute|hour|day|week|month|year)s?(?: (?:and )?(\d{1,2}) (minute|hour)s?)?"
)
_WEEKDAY: Final = re.compile(rf"(?:(on|next|this|coming|on the next) )?(?P<day>{DAY})")
_NEAR: Final = {"today": 0, "tomorrow": 1, "the day after tomorrow": 2, "day after tomorrow": 2}
_NEXT: Final = {"next week": "week", "next month": "month", "next year": "year"}
_NAMED: Final = rf"(?:(?P<named>{DAY}) ,? ?)?"
_YEAR: Final = r"(?: ?,? (?P<year>\d{4}))?"
_DATE_FORMS: Final = tuple(
    re.compile(rf"(?:on )?(?:the )?{form}")
    for form in (
        r"(?P<year>\d{4})-(?P<number>\d{1,2})-(?P<day>\d{1,2})",
        r"(?P<day>\d{1,2})\.(?P<number>\d{1,2})\.(?P<year>\d{4})?",
        rf"{_NAMED}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\.?(?: of)? (?P<month>{MONTH}){_YEAR}",
        rf"{_NAMED}(?P<month>{MONTH}) (?P<day>\d{{1,2}})(?:st|nd|rd|th)?{_YEAR}",
        r"(?P<day>\d{1,2})(?:st|nd|rd|th)",
    )
)
_SLASHES: Final = re.compile(r"(?:on )?\d{1,4}/\d{1,2}(?:/\d{1,4})?")


def read_moment(words: str, times: Sequence[time], now: datetime) -> datetime | None:
    """Return the moment in the zone of `now`, or None where the words name none.

    Args:
        words: normal, without the times of day.

    Raises:
        InvalidInputError: there is no such date, or the words name several moments.
    """
    if _SLASHES.fullmatch(words):
        raise InvalidInputError("A date with slashes may mean two days: write it like 2026-12-24.")
    if len(times) > 1:
        raise InvalidInputError("These are several moments: name one, or times that come again.")
    at = times[0] if times else None
    if span := _IN.fullmatch(words):
        return _later(span, at, now)
    if words in _NEAR:
        return _on(now.date() + timedelta(days=_NEAR[words]), at or DEFAULT_TIME, now)
    if words in _NEXT:
        return _on(_shifted(now.date(), 1, _NEXT[words]), at or DEFAULT_TIME, now)
    if found := _WEEKDAY.fullmatch(words):
        ahead = (DAYS[found["day"]] - now.weekday()) % 7
        moment = _on(now.date() + timedelta(days=ahead), at or DEFAULT_TIME, now)
        if moment <= now or (ahead == 0 and "next" in words):
            moment = _on(now.date() + timedelta(days=ahead + 7), at or DEFAULT_TIME, now)
        return moment
    if not words and at is not None:
        moment = _on(now.date(), at, now)
        return moment if moment > now else _on(now.date() + timedelta(days=1), at, now)
    for form in _DATE_FORMS:
        if found := form.fullmatch(words):
            return _date(found, at or DEFAULT_TIME, now)
    return None


def _later(span: re.Match[str], at: time | None, now: datetime) -> datetime | None:
    count, unit = int(span[1]), span[2]
    if unit in {"minute", "hour"}:
        if at is not None:
            return None
        seconds = count * (60 if unit == "minute" else 3600)
        if span[3]:
            seconds += int(span[3]) * (60 if span[4] == "minute" else 3600)
        # In real time: two hours are two hours, also over a change of the clocks.
        return (now.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(now.tzinfo)
    if span[3]:
        return None
    return _on(_shifted(now.date(), count, unit), at or now.time().replace(tzinfo=None), now)


def _shifted(day: date, count: int, unit: str) -> date:
    """A date so much later; the last of a shorter month for one that it does not have."""
    try:
        if unit in {"day", "week"}:
            return day + timedelta(days=count * (7 if unit == "week" else 1))
        months = day.year * 12 + day.month - 1 + count * (12 if unit == "year" else 1)
        year, month = divmod(months, 12)
        return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
    except (ValueError, OverflowError) as error:
        raise InvalidInputError("That is too far away: name an earlier date.") from error


def _date(found: re.Match[str], at: time, now: datetime) -> datetime:
    parts = found.groupdict()
    if parts.get("month") is None and parts.get("number") is None:
        return _numbered(int(parts["day"]), at, now)
    month = MONTHS[parts["month"]] if parts.get("month") else int(parts["number"])
    years = [int(parts["year"])] if parts["year"] else [now.year + ahead for ahead in range(9)]
    for year in years:
        try:
            moment = _on(date(year, month, int(parts["day"])), at, now)
        except ValueError:
            continue  # 29 February, most years
        if moment > now or parts["year"]:
            if parts.get("named") and DAYS[parts["named"]] != moment.weekday():
                raise InvalidInputError(
                    f"{moment_in_words(moment)[:-7]} is no {parts['named']}: name the date alone."
                )
            return moment
    raise InvalidInputError(f"There is no such date: “{found[0]}”.")


def _numbered(day: int, at: time, now: datetime) -> datetime:
    """The next such day of a month: "on the 3rd"."""
    first = now.date().replace(day=1)
    for ahead in range(13):
        month = _shifted(first, ahead, "month")
        if 1 <= day <= calendar.monthrange(month.year, month.month)[1]:
            moment = _on(month.replace(day=day), at, now)
            if moment > now:
                return moment
    raise InvalidInputError(f"No month has a day {day}: name one from 1 to 31.")


def _on(day: date, at: time, now: datetime) -> datetime:
    """A date and a time of day as the clocks of the zone show them; what they leave out is as much later."""
    moment = datetime.combine(day, at.replace(second=0, microsecond=0), tzinfo=now.tzinfo)
    return moment.astimezone(UTC).astimezone(now.tzinfo)
