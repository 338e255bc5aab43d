"""Names of days and months."""

from __future__ import annotations

from typing import Final

_DAYS: Final = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_SHORT_DAYS: Final = {"tues": 1, "weds": 2, "thur": 3, "thurs": 3}

DAYS: Final = (
    {name: number for number, name in enumerate(_DAYS)}
    | {name[:3]: number for number, name in enumerate(_DAYS)}
    | _SHORT_DAYS
)
"""As `datetime.weekday` counts: Monday is 0."""
MONTHS: Final = (
    {name: number for number, name in enumerate(_MONTHS, start=1)}
    | {name[:3]: number for number, name in enumerate(_MONTHS, start=1)}
    | {"sept": 9}
)
DAY: Final = "(?:" + "|".join(sorted(DAYS, key=len, reverse=True)) + r")\b"
MONTH: Final = "(?:" + "|".join(sorted(MONTHS, key=len, reverse=True)) + r")\b"
NUMBERED: Final = r"(?:\d{1,2}(?:st|nd|rd|th)|first)"
"""A day of a month: 1st, 22nd."""


def cron_day(name: str) -> int:
    """The number of a weekday as cron counts: Sunday is 0."""
    return (DAYS[name] + 1) % 7
