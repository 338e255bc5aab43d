"""Words for times that come again, as cron expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, time
from typing import Final

from pythonic_assistant.adapters.schedules.calendar_words import DAY, MONTH, MONTHS, NUMBERED, cron_day
from pythonic_assistant.adapters.schedules.time_of_day import DEFAULT_TIME
from pythonic_assistant.domain.errors import InvalidInputError

_OF_MONTH: Final = r"(?: (?:of|in) (?:the |every |a )?month)"
_LIST: Final = r"(?: ?(?:,|and|&|or)+ ?(?:on )?(?:the )?)"
_MONTHLY: Final = "(?:(?:monthly|every month) )?"
_WORKDAY: Final = "weekday|workday|working day|business day"
_NTH: Final = {"first": "#1", "1st": "#1", "second": "#2", "2nd": "#2", "third": "#3", "3rd": "#3"} | {
    "fourth": "#4",
    "4th": "#4",
    "last": "L",
}
_DAY_WORD: Final = f"(?:{DAY[:-2]}s?\\b)"
_FORMS: Final = (
    ("every", r"every(?: day)?|daily"),
    ("1-5", rf"(?:every |on )?(?:{_WORKDAY})s?|"
            r"(?:every |on )?mon(?:day)?s?(?: to | through | - |-)fri(?:day)?s?"),
    ("0,6", r"(?:every |on )?weekends?|every weekend day"),
    ("days", rf"(?:every|weekly on|every week on) (?:on )?{_DAY_WORD}(?:{_LIST}(?:every )?{_DAY_WORD})*"),
    ("days", rf"(?:on )?{DAY[:-2]}s(?:{_LIST}{DAY[:-2]}s)*"),
    ("week", r"weekly|every week"),
    ("month", r"monthly|every month"),
    ("dates", rf"{_MONTHLY}(?:on )?(?:the )?{NUMBERED}(?:{_LIST}{NUMBERED})*{_OF_MONTH}"),
    ("dates", rf"(?:monthly|every month) on (?:the |day )?(?:{NUMBERED}|\d{{1,2}})(?:{_LIST}{NUMBERED})*"),
    ("dates", rf"every {NUMBERED}(?: day)?{_OF_MONTH}?"),
    ("L", rf"{_MONTHLY}(?:on |at )?(?:the |every )?(?:last day|end){_OF_MONTH}?|"
          r"(?:at )?month end"),
    ("LW", rf"{_MONTHLY}(?:on )?(?:the |every )?last (?:{_WORKDAY}){_OF_MONTH}"),
    ("nth", rf"{_MONTHLY}(?:on )?(?:the |every )?(?P<nth>first|second|third|fourth|last|[1-4](?:st|nd|rd|th))"
            rf" (?P<nth_day>{DAY}){_OF_MONTH}"),
    ("nth", rf"every (?P<nth>first|last) (?P<nth_day>{DAY})"),
    ("year", rf"(?:(?:every year|yearly|annually)(?: on)?|every)(?: the)? "
             rf"(?:(?P<month>{MONTH}) (?P<day>\d{{1,2}})(?:st|nd|rd|th)?|"
             rf"(?P<day_first>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<month_last>{MONTH}))"),
    ("quarter", r"quarterly|every quarter"),
    ("step", r"every (?:(?P<count>\d{1,4}) )?(?P<unit>minute|hour|day|week|month)s?|(?P<hourly>hourly)"),
    ("other", rf"every (?:other|second|2nd) (?:day|week|month|{DAY})(?: on .+)?|"
              r"every \d+ weeks on .+|fortnightly"),
)  # fmt: skip
_READ: Final = tuple((kind, re.compile(form)) for kind, form in _FORMS)


def read_recurring(words: str, times: Sequence[time], now: datetime) -> str | None:
    """Return a cron expression, or None where the words name no times that come again.

    Args:
        words: normal, without the times of day.

    Raises:
        InvalidInputError: they do, but no cron expression can say it.
    """
    if words == "every" and not times:
        return None  # "every morning" is a day's, a lone "every" is nothing
    for kind, form in _READ:
        found = form.fullmatch(words)
        if found is None:
            continue
        if kind == "other":
            raise InvalidInputError(_no_cron(words))
        if kind == "step":
            return _step(found, times)
        date = _DATES[kind](found, now) if kind in _DATES else f"* * {kind}"
        return f"{_clock(times)} {date}"
    return None


def _clock(times: Sequence[time]) -> str:
    """The fields of minute and hour."""
    wanted = sorted(times or (DEFAULT_TIME,))
    if len({moment.minute for moment in wanted}) > 1:
        raise InvalidInputError("One schedule cannot have times of different minutes: make two.")
    return f"{wanted[0].minute} {','.join(str(moment.hour) for moment in wanted)}"


def _step(found: re.Match[str], times: Sequence[time]) -> str:
    count = int(found["count"] or 1)
    unit = "hour" if found["hourly"] else str(found["unit"])
    if unit in {"minute", "hour"}:
        whole = 60 if unit == "minute" else 24
        if times:
            raise InvalidInputError(f"Every {unit} and a time of day do not go together: leave one out.")
        if count == 0 or (whole % count and not (unit == "minute" and count % 60 == 0)):
            raise InvalidInputError(_no_cron(f"every {count} {unit}s"))
        if unit == "minute" and count >= whole:
            unit, count, whole = "hour", count // 60, 24
            if count and whole % count:
                raise InvalidInputError(_no_cron(f"every {count} hours"))
        every = "*" if count == 1 else f"*/{count}" if count < whole else "0"
        return f"{every} * * * *" if unit == "minute" else f"0 {every} * * *"
    if unit == "month" and count in {1, 2, 3, 4, 6, 12}:
        return f"{_clock(times)} 1 {'1' if count == 12 else f'*/{count}'} *"
    if count == 1:
        return f"{_clock(times)} * * *"
    raise InvalidInputError(_no_cron(f"every {count} {unit}s"))


def _no_cron(what: str) -> str:
    return (
        f"“{what}” cannot be said in cron, which begins anew with each hour, day, month and year. Name days, "
        "such as “on the 1st and 15th of the month”, or a count that divides the hour or the day."
    )


def _days(found: re.Match[str], _now: datetime) -> str:
    days = {cron_day(name) for name in re.findall(DAY[:-2], found[0].partition("week")[2] or found[0])}
    return f"* * {','.join(str(day) for day in sorted(days))}"


def _dates(found: re.Match[str], _now: datetime) -> str:
    words = found[0].replace("first", "1st")
    days = sorted({int(day) for day in re.findall(r"\d{1,2}", words)})
    if not 1 <= days[0] <= days[-1] <= 31:
        raise InvalidInputError(f"No month has a day {days[-1] if days[0] else 0}: name one from 1 to 31.")
    return f"{','.join(str(day) for day in days)} * *"


def _nth(found: re.Match[str], _now: datetime) -> str:
    return f"* * {cron_day(found['nth_day'])}{_NTH[found['nth']]}"


def _year(found: re.Match[str], _now: datetime) -> str:
    day, month = found["day"] or found["day_first"], found["month"] or found["month_last"]
    return f"{int(day)} {MONTHS[month]} *"


_DATES: Final[dict[str, Callable[[re.Match[str], datetime], str]]] = {
    "every": lambda _found, _now: "* * *",
    "days": _days,
    "week": lambda _found, now: f"* * {now.isoweekday() % 7}",
    "month": lambda _found, _now: "1 * *",
    "quarter": lambda _found, _now: "1 */3 *",
    "dates": _dates,
    "L": lambda _found, _now: "L * *",
    "LW": lambda _found, _now: "LW * *",
    "nth": _nth,
    "year": _year,
}
