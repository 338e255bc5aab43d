"""Times in English words: read wholly or not at all.

A grammar of our own, because a library that guesses is worse than none here. Of 46 phrases dateparser 1.5 put
"tomorrow at 9" at the present time of day, and recurrent 0.4 "every day at 7:30" at 19:30, without a word;
parsedatetime 2.6, which the latter stands on, has had no release since 2020. What is understood is shown back
before it is saved, and a word that is not understood refuses the whole.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from pythonic_assistant.adapters.schedules.cron import read_cron
from pythonic_assistant.adapters.schedules.moments import read_moment
from pythonic_assistant.adapters.schedules.recurring import read_recurring
from pythonic_assistant.adapters.schedules.time_of_day import split_times
from pythonic_assistant.adapters.schedules.wording import moment_in_words
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.schedule import Once, Recurring, When

EXAMPLES: Final = (
    "every weekday at 8",
    "every monday and thursday at 9:15",
    "on the last day of the month at 18:00",
    "tomorrow at 9",
    "in two hours",
)
MOST_CHARACTERS: Final = 200
_CRON: Final = re.compile(r"@[a-z]+|[\d*][\d*/,-]*(\s+\S+){4}", re.IGNORECASE)
_CRON_FIELD: Final = re.compile(r"[\dA-Za-z*/,#-]+")
_NUMBERS: Final = {
    word: str(number)
    for number, word in enumerate(
        [
            *("one", "two", "three", "four", "five", "six"),
            *("seven", "eight", "nine", "ten", "eleven", "twelve"),
        ],
        start=1,
    )
} | {"fifteen": "15", "twenty": "20", "thirty": "30", "forty-five": "45"}
_MEANT: Final = (
    (r"\ba\.m\.?", "am"),
    (r"\bp\.m\.?", "pm"),
    (r"(\d)t(\d)", r"\1 \2"),  # 2026-12-24T18:00
    (r"[,;]", " , "),
    (r"[.!?]+$", ""),
    (r"\btonight\b", "today night"),
    (r"\beach\b", "every"),
    (r"\bhalf an hour\b|\bhalf hour\b", "30 minutes"),
    (r"\bquarter of an hour\b|\bquarter hour\b", "15 minutes"),
    (r"\b(an?|one) (?=(minute|hour|day|week|month|year)\b)", "1 "),
)


def read_when(text: str, now: datetime) -> When:
    """Return what the words mean, or the cron expression that they are.

    Args:
        now: aware, in the zone in which the words are meant.

    Raises:
        InvalidInputError: they are not understood, or name a moment that has passed.
    """
    if _looks_like_cron(text):
        return Recurring(cron=read_cron(text))
    rest, times = split_times(_normal(text))
    if rest is not None:
        cron = read_recurring(rest, times, now)
        if cron is not None:
            return Recurring(cron=cron)
        moment = read_moment(rest, times, now)
        if moment is not None and moment <= now:
            raise InvalidInputError(f"{moment_in_words(moment)} has passed: name a later time.")
        if moment is not None:
            return Once(at=moment)
    named = ", ".join(f"“{example}”" for example in EXAMPLES)
    shown = " ".join(text.split())[:100]
    raise InvalidInputError(f"“{shown}” was not understood. Write it like {named}, or as cron: 0 8 * * 1-5.")


def _looks_like_cron(text: str) -> bool:
    """Five fields of which none could be a word."""
    fields = text.split()
    return bool(_CRON.fullmatch(text.strip())) and all(
        field.startswith("@") or (_CRON_FIELD.fullmatch(field) is not None) for field in fields
    )


def _normal(text: str) -> str:
    """Lower case, one blank between words, numbers as digits, one word for each meaning."""
    words = " ".join(text[:MOST_CHARACTERS].lower().split())
    for pattern, meant in _MEANT:
        words = re.sub(pattern, meant, words)
    return " ".join(_NUMBERS.get(word, word) for word in words.split())
