"""The feed: order, gaps, hints, and what listeners are told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from live.feed import STATUS, Change, Feed, worker_list
from live.rows import EventRow, TaskRow, artifact_row, assistant_row, event_row, task_row, worker_of
from live.tables import read_table
from pythonic_assistant.domain.errors import InvalidInputError

NOW = datetime(2026, 11, 20, tzinfo=UTC)
ROW = TaskRow(id=7, thread_id="t", kind="task", prompt="p", state="running", attempt=1, created_at=NOW)


def event(attempt: int, seq: int) -> EventRow:
    return EventRow(
        attempt=attempt, seq=seq, kind="noted", step_id=None, at=NOW, data={"text": f"{attempt}.{seq}"}
    )


def test_a_worker_whose_sandbox_is_unavailable_runs_nothing(feed: Feed) -> None:
    assert not feed.can_run()
    without = worker_of({"worker": "a", "sandbox": "unavailable", "sandbox_note": "No namespaces."})
    unsafe = worker_of({"worker": "b", "sandbox": "unsafe"})
    assert without is not None
    assert unsafe is not None
    assert without.sandbox_note == "No namespaces."
    feed.set_workers((without,))
    assert not feed.can_run()
    feed.set_workers((without, unsafe))
    assert feed.can_run()


@pytest.fixture
def feed() -> Feed:
    feed = Feed()
    feed.put_task(ROW)
    return feed


def test_events_are_ordered_and_gaps_are_noticed(feed: Feed) -> None:
    assert feed.put_events(7, [event(1, 1), event(1, 2)])
    assert not feed.put_events(7, [event(1, 5)])
    assert feed.last_contiguous(7) == (1, 2)
    assert feed.put_events(7, [event(1, 4), event(1, 3), event(1, 3)])
    assert feed.put_events(7, [event(2, 1)])
    view = feed.task(7)
    assert view is not None
    assert [(e.attempt, e.seq) for e in view.events] == [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 1)]


def test_numbers_only_grow_and_the_same_news_changes_nothing(feed: Feed) -> None:
    first = feed.number("task:7")
    feed.put_events(7, [event(1, 1)])
    second = feed.number("task:7")
    feed.put_events(7, [event(1, 1)])
    feed.put_task(ROW)
    assert first < second == feed.number("task:7")


def test_a_hint_shows_a_change_before_its_row(feed: Feed) -> None:
    said: list[Change] = []
    stop = feed.listen(said.append)
    feed.hint(7, state="running", attempt=1, verdict=None, cancelling=True)
    view = feed.task(7)
    assert view is not None
    assert view.row.cancelling
    assert [change.sentence for change in said if change.sentence] == ["Task “p”: Cancelling…."]
    feed.hint(7, state="queued", attempt=0, verdict=None, cancelling=False)  # from an earlier attempt
    feed.hint(7, state="succeeded", attempt=1, verdict="proven", cancelling=False)  # the row tells of the end
    assert feed.task(7) == view
    stop()
    feed.touch("x")
    assert "x" not in {change.channel for change in said}


def test_an_older_row_does_not_win(feed: Feed) -> None:
    feed.put_task(replace(ROW, attempt=2))
    feed.put_task(ROW)
    view = feed.task(7)
    assert view is not None
    assert view.row.attempt == 2


def test_what_is_not_followed_is_not_kept(feed: Feed) -> None:
    assert feed.put_events(8, [event(1, 3)])
    assert feed.task(8) is None
    feed.forget(7)
    assert feed.task(7) is None
    assert feed.followed() == ()


def test_listeners_hear_of_the_end(feed: Feed) -> None:
    heard: list[Change] = []
    feed.listen(heard.append)
    assert not feed.ended
    feed.end()
    assert feed.ended
    assert heard == [Change()]


def test_connection_and_workers(feed: Feed) -> None:
    said: list[Change] = []
    feed.listen(said.append)
    feed.set_connection("connected")
    feed.set_connection("lost")
    feed.set_connection("connected")
    assert [c.sentence for c in said if c.sentence] == ["Connection lost, reconnecting.", "Connected again."]
    assert not feed.model_configured()
    state = {"a": [{"worker": "w2", "model": "m", "slots": 4}], "b": [{"worker": "w1"}, {"other": 1}]}
    feed.set_workers(worker_list(state, worker_of))
    assert [w.id for w in feed.workers] == ["w1", "w2"]
    assert feed.model_configured()
    number = feed.number(STATUS)
    feed.set_workers(worker_list(state, worker_of))
    assert feed.number(STATUS) == number


def test_rows_are_read_with_what_they_lack() -> None:
    row = task_row(
        {
            "id": 3,
            "prompt": "p",
            "state": "running",
            "attempt": 1,
            "created_at": "2026-11-20 21:12:57.642438+00",
            "cancel_requested_at": "2026-11-20T21:13:00+00:00",
            "inputs": [{"name": "a"}, "junk"],
        }
    )
    assert row.cancelling
    assert row.created_at.tzinfo is not None
    assert row.inputs == ({"name": "a"},)
    assert event_row(2, {"seq": 1, "kind": "k", "data": None}).data == {}
    row_of = artifact_row(
        {
            "id": 1,
            "task_id": 2,
            "name": "n",
            "storage_path": "u/x",
            "media_type": "t",
            "bytes": 3,
            "sha256": "0",
        }
    )
    assert row_of.bytes == 3
    breakers = [{"title": "T", "prompt": "P", "files": ["f"]}, {"title": "no prompt"}]
    assistant = assistant_row({"id": "a", "name": "A", "model": "scripted-demo", "ice_breakers": breakers})
    assert assistant.scripted
    assert [b.files for b in assistant.ice_breakers] == [("f",)]


def test_tables_are_cut_and_refused() -> None:
    table = read_table(b"a,b\n" + b"1,x\n" * 900, tabs=False)
    assert table.cut
    assert len(table.rows) == 500
    assert list(read_table(b"a\tb\n1\t2\n", tabs=True).rows.columns) == ["a", "b"]
    with pytest.raises(InvalidInputError):
        read_table(b'a,b\n1,2,3,4\n"', tabs=False)
    with pytest.raises(InvalidInputError):
        read_table(b"\xff\xfe\x00", tabs=False)


def test_what_changes_after_the_latest_number_was_taken_has_a_larger_one(feed: Feed) -> None:
    feed.touch("thread:a")
    seen = feed.latest()
    assert seen == feed.number("thread:a")
    feed.touch("status")
    assert feed.number("status") > seen
