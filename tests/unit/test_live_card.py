"""A card: the marks of a run without a sandbox, of undone code, and of sites that were refused."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from live.feed import Feed
from live.rows import EventRow, TaskRow
from pages import visit

NOW = datetime.now(UTC)
ROW = TaskRow(
    id=7,
    thread_id="t",
    kind="task",
    prompt="Read my issues",
    state="running",
    attempt=1,
    created_at=NOW,
    started_at=NOW - timedelta(seconds=3),
)
ENDED = replace(ROW, state="succeeded", verdict="unverified", answer="31.", finished_at=NOW)
STARTED = (
    "run_started",
    {"sandbox": "namespaces", "limits": {"memory_bytes": 1 << 30, "seconds": 900}, "hosts": ["a.org"]},
)
FAILED_CODE = (
    ("plan_made", {"plan": {"steps": [{"id": "s1", "title": "Load"}]}}),
    ("step_started", {"step_id": "s1"}),
    ("code_written", {"step_id": "s1", "execution": 1, "code": "1/0"}),
    (
        "code_executed",
        {"step_id": "s1", "execution": 1, "outcome": "error", "error": "Zero", "rolled_back": True},
    ),
)


def refused(host: str) -> tuple[str, dict[str, Any]]:
    return "egress_requested", {"host": host, "outcome": "refused", "reason": f"{host} is not allowed."}


def script():  # AppTest runs its lines alone, where no type is known
    from pages import card

    card.show(7, focus=False)


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    feed = Feed()

    async def tell(_: int) -> None:
        """All events are there already."""

    def wait_for(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    monkeypatch.setattr(visit, "wait_for", wait_for)
    monkeypatch.setattr(visit, "person", lambda: SimpleNamespace(feed=feed, tell=tell))
    return feed


def card(feed: Feed, row: TaskRow, *events: tuple[str, Mapping[str, Any]]) -> AppTest:
    feed.put_task(row)
    feed.put_events(
        row.id,
        [
            EventRow(attempt=1, seq=seq, kind=kind, step_id=data.get("step_id"), at=NOW, data=data)
            for seq, (kind, data) in enumerate(events, start=1)
        ],
    )
    app = AppTest.from_function(script, default_timeout=20).run()
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    return "\n".join(str(one.value) for one in (*app.markdown, *app.warning)).replace("\\", "")


def test_a_running_card_tells_its_walls_and_what_was_undone(feed: Feed) -> None:
    told = words(card(feed, ROW, STARTED, *FAILED_CODE))
    assert "Isolated by Linux namespaces · 1 GiB memory · 15 min in all · 1 site allowed" in told
    assert "undone" in told
    assert "without a sandbox" not in told


def test_a_run_without_a_sandbox_is_marked_while_it_runs_and_ever_after(feed: Feed) -> None:
    assert "runs without a sandbox" in words(card(feed, replace(ROW, sandbox_tier="unsafe")))
    assert "ran without a sandbox" in words(card(feed, replace(ENDED, sandbox_tier="unsafe")))


def test_a_failed_card_names_each_refused_site_once_and_not_too_many(feed: Feed) -> None:
    failed = replace(ENDED, state="failed", verdict=None, answer=None, error="It did not work.")
    hosts = ["b.org", "b.org", "c.org", "d.org", "e.org", "f.org"]
    app = card(feed, failed, STARTED, *map(refused, hosts))
    [warning] = app.warning
    told = warning.value.replace("\\", "")
    assert told.count("b.org is not allowed.") == 1
    assert "d.org is not allowed." in told
    assert "e.org" not in told
    assert "and 2 more" in told


def test_a_failed_card_says_a_reason_once_for_all_sites_that_share_it(feed: Feed) -> None:
    failed = replace(ENDED, state="failed", verdict=None, answer=None, error="It did not work.")
    alike = [
        ("egress_requested", {"host": f"{letter}.org", "outcome": "refused", "reason": "None is allowed."})
        for letter in "abcdefg"
    ]
    [warning] = card(feed, failed, STARTED, *alike).warning
    told = warning.value.replace("\\", "")
    assert told.count("None is allowed.") == 1
    assert "**a.org**, **b.org**" in told
    assert "f.org" not in told
    assert "and 2 more: None" in told


def test_a_failed_card_without_refused_sites_warns_of_none(feed: Feed) -> None:
    failed = replace(ENDED, state="failed", verdict=None, answer=None, error="It did not work.")
    assert not card(feed, failed, STARTED).warning


@pytest.mark.parametrize(
    ("sandbox", "sentence"),
    [("unavailable", "No worker that is online can isolate code"), (None, "No worker is online")],
)
def test_why_a_queued_task_waits_is_told(feed: Feed, sandbox: str | None, sentence: str) -> None:
    from live.rows import worker_of

    worker = worker_of({"worker": "w", "sandbox": sandbox}) if sandbox else None
    feed.set_connection("connected")
    feed.set_workers((worker,) if worker else ())
    assert sentence in words(card(feed, replace(ROW, state="queued", started_at=None)))
