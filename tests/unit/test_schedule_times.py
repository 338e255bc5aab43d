"""When schedules are due: changes of the clocks, short months, zones; and what is done about missed runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pythonic_assistant.adapters.schedules.cron import next_times, read_cron, read_zone
from pythonic_assistant.adapters.schedules.planning import plan_of
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.schedule import DueSchedule, MissedPolicy

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
UTC_ZONE = ZoneInfo("UTC")


@pytest.mark.parametrize(
    ("zone", "cron", "after", "expected"),
    [
        # Spring: 02:30 does not exist; the run comes once, right after the gap.
        (BERLIN, "30 2 * * *", "2026-03-28T03:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        (NEW_YORK, "30 2 * * *", "2026-03-07T03:00", ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]),
        # Autumn: 02:30 exists twice; the run comes once, the first time.
        (BERLIN, "30 2 * * *", "2026-10-24T03:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        (NEW_YORK, "30 1 * * *", "2026-10-31T03:00", ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]),
        # The same hour on the clock, whatever the offset.
        (BERLIN, "0 8 * * *", "2026-03-28T09:00", ["2026-03-29T08:00+02:00", "2026-03-30T08:00+02:00"]),
        (NEW_YORK, "0 8 * * *", "2026-10-31T09:00", ["2026-11-01T08:00-05:00", "2026-11-02T08:00-05:00"]),
        # What counts hours goes on as real time does: the doubled hour has its runs, the missing one none.
        (BERLIN, "0 * * * *", "2026-10-25T01:30", ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"]),
        (NEW_YORK, "0 * * * *", "2026-03-08T01:30", ["2026-03-08T03:00-04:00", "2026-03-08T04:00-04:00"]),
        (BERLIN, "0 9 29 2 *", "2026-11-21T15:00", ["2028-02-29T09:00+01:00", "2032-02-29T09:00+01:00"]),
        (BERLIN, "0 9 L * *", "2027-12-31T10:00", ["2028-01-31T09:00+01:00", "2028-02-29T09:00+01:00"]),
        (NEW_YORK, "0 9 31 * *", "2026-03-31T10:00", ["2026-05-31T09:00-04:00", "2026-07-31T09:00-04:00"]),
        (BERLIN, "0 9 LW * *", "2026-01-01T00:00", ["2026-01-30T09:00+01:00", "2026-02-27T09:00+01:00"]),
        (UTC_ZONE, "0 9 * * 1#2", "2026-01-01T00:00", ["2026-01-12T09:00+00:00", "2026-02-09T09:00+00:00"]),
    ],
)  # fmt: skip
def test_due_times(zone: ZoneInfo, cron: str, after: str, expected: list[str]) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=zone)
    times = [due.isoformat(timespec="minutes") for due in next_times(cron, zone, moment, 2)]
    assert times == expected
    # One after the other, as workers compute them, they are the same.
    first = next_times(cron, zone, moment, 1)[0]
    assert next_times(cron, zone, first.astimezone(UTC), 1)[0].isoformat(timespec="minutes") == expected[1]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Europe/Berln", "Did you mean Europe/Berlin?"),
        ("berlin", "Did you mean Europe/Berlin?"),
        ("Mars/Olympus", "Write it like Europe/Berlin."),
        ("../../etc/passwd", "no time zone"),
        ("", "no time zone"),
        ("localtime", "no time zone"),
    ],
)
def test_zones_that_do_not_exist(name: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_zone(name)
    assert sentence in str(refused.value)


def test_a_zone_is_found_whatever_its_case() -> None:
    assert read_zone(" europe/berlin ").key == "Europe/Berlin"


@pytest.mark.parametrize(
    "cron",
    [
        *("", "* * * *", "0 0 8 * * 1", "* * * * * *", "60 * * * *", "0 0 31 4 *", "a b c d e"),
        *("0 0 1 1 L", "*/0 * * * *", "@reboot", "0 8 * * 1-" + "5" * 300),
    ],
)
def test_expressions_that_are_none(cron: str) -> None:
    with pytest.raises(InvalidInputError):
        read_cron(cron)


def due(missed: MissedPolicy, next_at: datetime | None, cron: str = "0 8 * * *") -> DueSchedule:
    planned = datetime(2026, 3, 1, tzinfo=UTC)
    return DueSchedule(
        id="s",
        cron=cron,
        time_zone="Europe/Berlin",
        missed=missed,
        planned_from=planned,
        stamp=planned.isoformat(),
        next_at=next_at,
    )


def test_a_run_on_time() -> None:
    at = datetime(2026, 3, 29, 8, 0, tzinfo=BERLIN)
    for missed in ("skip", "catch_up_once"):
        plan = plan_of(due(missed, at), at + timedelta(seconds=2))
        assert (plan.due_at, plan.next_at, plan.skipped, plan.note) == (at, at + timedelta(days=1), 0, "")


def test_missed_runs_are_skipped_or_made_up_for_once_over_a_change_of_the_clocks() -> None:
    first = datetime(2026, 3, 27, 8, 0, tzinfo=BERLIN)
    now = datetime(2026, 3, 30, 7, 0, tzinfo=BERLIN)  # missed on the 27th, 28th and 29th
    following = datetime(2026, 3, 30, 8, 0, tzinfo=BERLIN)
    skipped = plan_of(due("skip", first), now)
    assert (skipped.due_at, skipped.next_at, skipped.skipped) == (None, following, 3)
    assert skipped.skipped_at == datetime(2026, 3, 29, 8, 0, tzinfo=BERLIN)
    made_up = plan_of(due("catch_up_once", first), now)
    assert (made_up.due_at, made_up.next_at) == (datetime(2026, 3, 29, 8, 0, tzinfo=BERLIN), following)
    assert made_up.note.strip() == (
        "(This task makes up for 3 runs that could not start in time: due at Fri 27 Mar 2026, 08:00, "
        "Sat 28 Mar 2026, 08:00, Sun 29 Mar 2026, 08:00, Europe/Berlin.)"
    )


def test_with_a_run_on_time_after_missed_ones_only_those_are_skipped() -> None:
    first = datetime(2026, 3, 27, 8, 0, tzinfo=BERLIN)
    now = datetime(2026, 3, 29, 8, 1, tzinfo=BERLIN)
    plan = plan_of(due("skip", first), now)
    assert (plan.due_at, plan.skipped) == (datetime(2026, 3, 29, 8, 0, tzinfo=BERLIN), 2)


def test_a_year_of_minutes_is_counted_to_a_thousand() -> None:
    first = datetime(2026, 3, 27, 8, 0, tzinfo=BERLIN)
    plan = plan_of(due("catch_up_once", first, "* * * * *"), first + timedelta(days=365))
    assert "1000 runs or more" in plan.note
    assert len(plan.note) < 1000
    assert plan.due_at == first + timedelta(days=365)


def test_a_new_schedule_counts_from_when_it_was_made() -> None:
    plan = plan_of(due("skip", None), datetime(2026, 3, 1, 5, 0, tzinfo=UTC))
    assert (plan.due_at, plan.next_at) == (None, datetime(2026, 3, 1, 7, 0, tzinfo=UTC))


@pytest.mark.parametrize("milliseconds", [-1, 0, 1, 1000, 58_999, 59_000, 59_001, 59_500, 59_999])
def test_no_plan_is_ahead_of_the_clock(milliseconds: int) -> None:
    first = datetime(2026, 3, 27, 8, 0, tzinfo=BERLIN)
    now = first + timedelta(minutes=3, milliseconds=milliseconds)
    plan = plan_of(due("catch_up_once", first, "* * * * *"), now)
    assert plan.due_at is not None
    assert plan.next_at is not None
    assert plan.due_at <= now < plan.next_at == plan.due_at + timedelta(minutes=1)
