"""`pythonic schedules` and `pythonic ask --at`, as a person runs them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tests.integration.test_cli_secrets import Person, person

__all__ = ["person"]
pytestmark = pytest.mark.timeout(90)


def test_a_schedule_is_shown_back_saved_listed_paused_run_and_removed(person: Person) -> None:
    assert "No schedules. Add one" in person.run("schedules", "list").stdout
    added = person.run(
        "schedules", "add", "every weekday at 8", "Summarize the orders", "--zone", "europe/berlin"
    )
    assert added.returncode == 0, added.stderr
    first, *times, last = added.stdout.splitlines()
    assert first == "At 08:00 on Monday through Friday (0 8 * * 1-5, Europe/Berlin)"
    assert len(times) == 5
    assert all(line.endswith("08:00") for line in times)
    assert last.startswith("Summarize the orders is saved as ")
    (row,) = person.json("schedules", "list")
    assert (row["cron"], row["time_zone"], row["missed"]) == ("0 8 * * 1-5", "Europe/Berlin", "skip")
    assert datetime.fromisoformat(row["next"][0]) > datetime.now(UTC)
    assert person.json("schedules", "pause", "summarize the orders") == {
        "schedule": row["id"],
        "paused": True,
    }
    assert person.json("schedules", "list")[0]["next"] == []
    assert "next " in person.run("schedules", "resume", row["id"][:8]).stdout
    ran = person.json("schedules", "run", row["id"][:8])
    assert ran["schedule"] == row["id"]
    assert ran["task_id"] > 0
    assert "is removed" in person.run("schedules", "remove", "Summarize the orders").stdout
    assert person.json("schedules", "list") == []


def test_mistakes_are_told_in_a_sentence_and_nothing_is_saved(person: Person) -> None:
    for arguments, sentence in (
        (("schedules", "add", "whenever it rains", "P"), "was not understood"),
        (("schedules", "add", "tomorrow at 9", "P"), "pythonic ask --at 'tomorrow at 9'"),
        (("schedules", "add", "every day", "P", "--zone", "Europe/Berln"), "Did you mean Europe/Berlin?"),
        (("schedules", "run", "nothing"), "There is no schedule 'nothing'"),
        (("ask", "P", "--at", "every day at 9"), "pythonic schedules add"),
        (("ask", "P", "--at", "yesterday"), "was not understood"),
    ):
        done = person.run(*arguments)
        assert done.returncode == 2, (arguments, done.stdout)
        assert sentence in done.stderr
    assert person.json("schedules", "list") == []


def test_a_task_for_later_waits_and_the_command_does_not(person: Person) -> None:
    person.environment["TZ"] = "America/New_York"
    asked = person.json("ask", "Water the plants", "--at", "tomorrow 9:00")
    assert asked["state"] == "scheduled"
    run_at = datetime.fromisoformat(asked["run_at"])
    assert run_at.hour == 9
    assert run_at.utcoffset() == run_at.astimezone(ZoneInfo("America/New_York")).utcoffset()
    told = person.run("ask", "Water them", "--at", "in two hours").stdout
    assert told.startswith(f"Task {asked['task_id'] + 1} begins ")
