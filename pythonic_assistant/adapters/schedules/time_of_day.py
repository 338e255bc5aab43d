"""Times of day in a phrase: taken out, so that what is left names days only."""

from __future__ import annotations

import re
from datetime import time
from typing import Final

DEFAULT_TIME: Final = time(9)
"""What a day without a time means; it is shown back like all else."""
_NAMED: Final = {
    "midnight": time(0),
    "morning": time(8),
    "noon": time(12),
    "midday": time(12),
    "afternoon": time(15),
    "evening": time(18),
    "night": time(20),
}
_PART: Final = re.compile(
    r"\b(?:(?:in|at) (?:the )?)?(morning|afternoon|evening|night|noon|midday|midnight)s?\b"
)
_CLOCK: Final = re.compile(
    r"(?:(?:\bat|\band|\b&|,) )?\b(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::00)?(?: ?(?P<half>am|pm))?\b"
    r"|(?:(?:\bat|\band|,) )?\b(?P<hour12>\d{1,2}) ?(?P<half12>am|pm)\b"
    r"|\bat (?P<bare>\d{1,2})(?: ?o'?clock| ?h\b)?(?![\d:.-])"
    r"|(?:(?<=day )|(?<=days )|(?<=daily )|(?<=tomorrow ))(?P<after>\d{1,2})$"
)
_MORE: Final = re.compile(r"^ ?(?:and|,|&) (?:at )?(\d{1,2})(?![\d:]|st|nd|rd|th| ?am| ?pm)(?= |$)")


def split_times(words: str) -> tuple[str | None, tuple[time, ...]]:
    """Return a phrase without its times of day, and those.

    The phrase is None where a number that must be a time is none, such as in "at 25".
    """
    times: list[time] = []
    part = _PART.search(words)
    named = part.group(1) if part else ""
    if part:
        words = f"{words[: part.start()]} {words[part.end() :]}"
        if _PART.search(words):
            return None, ()
    words = " ".join(words.split())
    while found := _CLOCK.search(words):
        groups = found.groupdict()
        hour = next(groups[name] for name in ("hour", "hour12", "bare", "after") if groups[name])
        half = groups["half"] or groups["half12"] or _half(int(hour), named)
        read = _time(int(hour), int(groups["minute"] or 0), half)
        if read is None:
            return None, ()
        times.append(read)
        rest = words[found.end() :]
        while more := _MORE.match(rest):
            again = _time(int(more.group(1)), 0, _half(int(more.group(1)), named))
            if again is None:
                return None, ()
            times.append(again)
            rest = rest[more.end() :]
        words = f"{words[: found.start()]} {rest}"
        words = " ".join(words.split())
    if not times and named:
        times.append(_NAMED[named])
    return words.strip(" ,"), tuple(dict.fromkeys(times))


def _half(hour: int, named: str) -> str:
    """am or pm where a part of the day says so: "at 8 in the evening"."""
    return "pm" if named in {"afternoon", "evening", "night"} and 1 <= hour < 12 else ""


def _time(hour: int, minute: int, half: str) -> time | None:
    if half and not 1 <= hour <= 12:
        return None
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    return time(hour, minute) if hour < 24 and minute < 60 else None
