"""Words for times: understood wholly and shown back, or refused in a sentence."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pythonic_assistant.adapters.schedules.cron import in_words, next_times
from pythonic_assistant.adapters.schedules.wording import moment_in_words
from pythonic_assistant.adapters.schedules.words import read_when
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.schedule import Once, Recurring

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 21, 15, 0, tzinfo=BERLIN)  # a Saturday


@pytest.mark.parametrize(
    ("words", "cron"),
    [
        ("every weekday at 8", "0 8 * * 1-5"),
        ("Every Weekday at 8.", "0 8 * * 1-5"),
        ("on weekdays", "0 9 * * 1-5"),
        ("monday to friday at 7", "0 7 * * 1-5"),
        ("every day at 7:30", "30 7 * * *"),
        ("daily at 7", "0 7 * * *"),
        ("9am every day", "0 9 * * *"),
        ("every day at 9 and 17", "0 9,17 * * *"),
        ("every morning", "0 8 * * *"),
        ("every evening at 7", "0 19 * * *"),
        ("every saturday morning", "0 8 * * 6"),
        ("every hour", "0 * * * *"),
        ("hourly", "0 * * * *"),
        ("every 15 minutes", "*/15 * * * *"),
        ("every half hour", "*/30 * * * *"),
        ("every two hours", "0 */2 * * *"),
        ("every monday at 9", "0 9 * * 1"),
        ("every monday and thursday at 9:15", "15 9 * * 1,4"),
        ("every mon, wed and fri at 10", "0 10 * * 1,3,5"),
        ("mondays at 9", "0 9 * * 1"),
        ("weekly on sunday", "0 9 * * 0"),
        ("every friday at 5pm", "0 17 * * 5"),
        ("every weekend at noon", "0 12 * * 0,6"),
        ("on the 1st of the month", "0 9 1 * *"),
        ("on the 1st and 15th of every month", "0 9 1,15 * *"),
        ("every month on the 15th at 10", "0 10 15 * *"),
        ("on the last day of the month at 18:00", "0 18 L * *"),
        ("on the last weekday of the month", "0 9 LW * *"),
        ("first monday of the month at 9", "0 9 * * 1#1"),
        ("last friday of the month at 16:00", "0 16 * * 5L"),
        ("every quarter", "0 9 1 */3 *"),
        ("every year on december 24", "0 9 24 12 *"),
        ("every 29 february", "0 9 29 2 *"),
        ("0 8 * * 1-5", "0 8 * * 1-5"),
        ("*/5 8-17 * jan-mar mon", "*/5 8-17 * JAN-MAR MON"),
        ("@daily", "0 0 * * *"),
    ],
)
def test_words_for_times_that_come_again(words: str, cron: str) -> None:
    assert read_when(words, NOW) == Recurring(cron=cron)
    assert len(next_times(cron, BERLIN, NOW)) == 5
    assert in_words(cron)


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        ("tomorrow at 9", "Sun 22 Nov 2026, 09:00"),
        ("tomorrow 9:00", "Sun 22 Nov 2026, 09:00"),
        ("in two hours", "Sat 21 Nov 2026, 17:00"),
        ("in half an hour", "Sat 21 Nov 2026, 15:30"),
        ("in 1 hour and 30 minutes", "Sat 21 Nov 2026, 16:30"),
        ("in a week", "Sat 28 Nov 2026, 15:00"),
        ("in 3 days at 8:00", "Tue 24 Nov 2026, 08:00"),
        ("tonight at 8", "Sat 21 Nov 2026, 20:00"),
        ("today at 18:30", "Sat 21 Nov 2026, 18:30"),
        ("at 9", "Sun 22 Nov 2026, 09:00"),
        ("at 16", "Sat 21 Nov 2026, 16:00"),
        ("at midnight", "Sun 22 Nov 2026, 00:00"),
        ("monday", "Mon 23 Nov 2026, 09:00"),
        ("saturday at 10", "Sat 28 Nov 2026, 10:00"),
        ("saturday at 16", "Sat 21 Nov 2026, 16:00"),
        ("next saturday at 16", "Sat 28 Nov 2026, 16:00"),
        ("friday at noon", "Fri 27 Nov 2026, 12:00"),
        ("the day after tomorrow at 7", "Mon 23 Nov 2026, 07:00"),
        ("2026-12-24 18:00", "Thu 24 Dec 2026, 18:00"),
        ("2026-12-24T18:00", "Thu 24 Dec 2026, 18:00"),
        ("24.12.2026 18:00", "Thu 24 Dec 2026, 18:00"),
        ("24 December at 18:00", "Thu 24 Dec 2026, 18:00"),
        ("December 24th at 6 p.m.", "Thu 24 Dec 2026, 18:00"),
        ("1 March", "Mon 1 Mar 2027, 09:00"),
        ("29 february", "Tue 29 Feb 2028, 09:00"),
        ("on the 3rd at 10", "Thu 3 Dec 2026, 10:00"),
        ("on the 31st", "Thu 31 Dec 2026, 09:00"),
        ("next month", "Mon 21 Dec 2026, 09:00"),
    ],
)
def test_words_for_one_moment(words: str, moment: str) -> None:
    read = read_when(words, NOW)
    assert isinstance(read, Once)
    assert moment_in_words(read.at) == moment


def test_an_hour_is_an_hour_also_when_the_clocks_change() -> None:
    before = datetime(2026, 10, 25, 1, 30, tzinfo=BERLIN)
    read = read_when("in two hours", before)
    assert isinstance(read, Once)
    assert read.at.astimezone(UTC) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert moment_in_words(read.at) == "Sun 25 Oct 2026, 02:30"
    # A time that the clocks leave out is as much later as they are put forward.
    read = read_when("tomorrow at 2:30", datetime(2026, 3, 28, 12, 0, tzinfo=BERLIN))
    assert isinstance(read, Once)
    assert moment_in_words(read.at) == "Sun 29 Mar 2026, 03:30"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("whenever it rains", "was not understood. Write it like “every weekday at 8”"),
        ("tomorrow at 9 or so", "was not understood"),
        ("every", "was not understood"),
        ("", "was not understood"),
        ("at 25", "was not understood"),
        ("every hour on weekdays", "was not understood"),
        ("today at 9", "Sat 21 Nov 2026, 09:00 has passed"),
        ("2020-01-01", "has passed"),
        ("2026-02-30", "no such date"),
        ("29 february 2027", "no such date"),
        ("thursday, december 25", "is no thursday"),
        ("03/04/2026", "may mean two days"),
        ("tomorrow at 9 and 17", "several moments"),
        ("every day at 8:00 and 17:30", "different minutes"),
        ("every 7 minutes", "cannot be said in cron"),
        ("every 2 weeks on monday", "cannot be said in cron"),
        ("every other friday", "cannot be said in cron"),
        ("on the 32nd of the month", "No month has a day 32"),
        ("in 9999 years", "too far away"),
        ("61 * * * *", "its minute is wrong"),
        ("0 8 30 2 *", "its day-of-month is wrong"),
    ],
)
def test_what_is_not_understood_is_refused_in_a_sentence(words: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_when(words, NOW)
    assert sentence in str(refused.value)


_WORDS = (
    *("every", "on", "the", "at", "in", "day", "week", "month", "monday", "1st", "15", "9:00", "pm"),
    *("and", "last", "of", "tomorrow", "minutes", "noon", "*/2", "L"),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(_WORDS), max_size=7).map(" ".join) | st.text(max_size=30))
def test_any_words_are_read_or_refused(words: str) -> None:
    try:
        read = read_when(words, NOW)
    except InvalidInputError:
        return
    if isinstance(read, Recurring):
        assert next_times(read.cron, BERLIN, NOW, 1)
    else:
        assert read.at > NOW
