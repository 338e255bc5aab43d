"""Moments and times in words that a person checks before something is saved."""

from __future__ import annotations

from datetime import datetime
from typing import Final

# Not strftime, which would write them in the language of the machine.
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def moment_in_words(moment: datetime) -> str:
    """A moment of a zone as its clocks show it: "Mon 23 Nov 2026, 08:00"."""
    day = f"{_DAYS[moment.weekday()]} {moment.day} {_MONTHS[moment.month - 1]} {moment.year}"
    return f"{day}, {moment:%H:%M}"
