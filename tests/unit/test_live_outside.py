"""What code did beyond its sandbox, and the limits that people set, in the words of the page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from live.outside import Outside, alike
from live.own_limits import FIELDS, read_own_limits
from live.wording import ago, isolation, memory, reach, span, walls, way_to_the_queue
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.limits import LEAST

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def outside(*events: tuple[str, Mapping[str, Any]]) -> Outside:
    made = Outside()
    for kind, data in events:
        made.take(kind, data)
    return made


def request(host: str, outcome: str = "allowed", **more: Any) -> tuple[str, dict[str, Any]]:
    return "egress_requested", {"port": 443, "method": "GET"} | {"host": host, "outcome": outcome, **more}


def test_requests_that_are_alike_are_one_line_and_what_was_refused_comes_first() -> None:
    told = outside(
        request("a.org", status=200, sent_bytes=1, received_bytes=10, secrets=["TOKEN"]),
        request("b.org", status=404),
        request("a.org", status=200, sent_bytes=2, received_bytes=20, secrets=["TOKEN"]),
        request("c.org", "failed", reason="It did not answer."),
        request("evil.org", "refused", reason="It is not allowed."),
        request("a.org", status=200, received_bytes=5),
    )
    assert told.hosts == ("a.org", "b.org")
    assert (told.count("refused"), told.count("failed")) == (1, 1)
    refused, failed, with_token, missing, without = alike(told.requests)
    assert (refused.host, refused.reason, refused.allowed) == ("evil.org", "It is not allowed.", False)
    assert failed.outcome == "failed"
    assert (with_token.times, with_token.sent_bytes, with_token.received_bytes) == (2, 3, 30)
    assert with_token.secrets == ("TOKEN",)
    assert missing.status == 404
    assert (without.times, without.secrets, without.received_bytes) == (1, (), 5)


def test_requests_that_were_not_told_one_by_one_are_no_site_and_stand_last() -> None:
    more = request("(more)", "refused", method="(any)", reason="9 more requests, not listed one by one.")
    told = outside(more, request("a.org", status=200))
    assert told.hosts == ("a.org",)
    assert [one.summary for one in alike(told.requests)] == [False, True]


@pytest.mark.parametrize(
    ("media_type", "load", "line"),
    [
        ("application/vnd.apache.parquet", "f({path!r})", "f('inputs/saved_x.parquet')"),
        ("application/json", "{'a': {path!r}, **{}}", "{'a': 'inputs/saved_x.json', **{}}"),
        ("text/strange", "f({path!r})", "f('inputs/saved_x.bin')"),
    ],
)
def test_a_kept_variable_tells_how_it_is_loaded(media_type: str, load: str, line: str) -> None:
    data = {
        "name": "x",
        "type": "dict",
        "bytes": 3,
        "media_type": media_type,
        "load": load,
        "path": "/a/x.bin",
    }
    assert outside(("variable_saved", data)).kept["x"].load == line


def test_a_variable_that_is_kept_again_stands_once() -> None:
    told = outside(
        ("variable_saved", {"name": "x", "shape": "1"}),
        ("variable_saved", {"name": "y"}),
        ("variable_saved", {"name": "x", "shape": "2"}),
    )
    assert [(one.name, one.shape) for one in told.kept.values()] == [("x", "2"), ("y", "")]


def test_strange_events_are_passed_over_or_told_as_far_as_they_go() -> None:
    told = outside(
        ("variable_saved", {"name": ["x"]}),
        ("egress_requested", {"host": None, "status": "200", "secrets": "TOKEN"}),
        ("tool_called", {"seconds": "long"}),
        ("something_else", {"host": "a.org"}),
    )
    assert told.kept == {}
    [strange] = told.requests
    assert (strange.host, strange.status, strange.secrets, strange.allowed) == ("?", 0, (), False)
    assert [(one.tool, one.seconds) for one in told.tools] == [("?", 0.0)]


@pytest.mark.parametrize(
    ("count", "words"),
    [(32 << 20, "32 MiB"), (1 << 30, "1 GiB"), (3 << 29, "1.5 GiB"), (1000 << 20, "1,000 MiB")],
)
def test_memory(count: int, words: str) -> None:
    assert memory(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 s"),
        (0.5, "0.5 s"),
        (60, "1 min"),
        (90, "90 s"),
        (120, "2 min"),
        (150, "2 min 30 s"),
        (3600, "1 h"),
    ],
)
def test_span(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_the_walls_of_a_run_are_told_in_a_line() -> None:
    limits = {"memory_bytes": 1 << 30, "execution_seconds": 120, "turns": 40}
    assert walls("namespaces", limits, ()) == (
        "Isolated by Linux namespaces · 1 GiB memory · 2 min per step · no internet"
    )
    assert walls("landlock", {}, ("a.org",)) == "Isolated by Landlock and seccomp · 1 site allowed"
    assert walls("bwrap", {}, None) == "Isolated by bubblewrap"


def test_a_run_without_a_sandbox_promises_nothing() -> None:
    words = walls("unsafe", {"memory_bytes": 1 << 30}, ())
    assert words.startswith("Not isolated")
    assert "internet" not in words
    assert isolation("*new*") == "Sandbox: \\*new\\*"
    assert way_to_the_queue("direct") == "Woken by the database at once"
    assert way_to_the_queue("*new*") == "Queue: \\*new\\*"
    assert reach(("a.org", "b.org")) == "2 sites allowed"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "just now"), (59, "just now"), (60, "1 min ago"), (7300, "2 h ago"), (200_000, "2 days ago")],
)
def test_ago(seconds: float, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words


def test_own_limits_are_read_in_their_units() -> None:
    assert read_own_limits({"memory_bytes": 2048, "execution_seconds": None, "seconds": 60}) == {
        "memory_bytes": 2 << 30,
        "seconds": 60,
    }
    assert {field.name for field in FIELDS} <= set(LEAST)
    assert read_own_limits({"tokens": 50, "cost": 57}) == {"tokens": 50_000, "cost": 0.57}
    (money,) = (field for field in FIELDS if field.name == "cost")
    assert (money.usual_for({"cost": 0.57}), money.usual_for({})) == (57, 500)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"memory_bytes": -1}, "Memory is -1 MiB: write at least 32, or leave it empty."),
        ({"memory_bytes": 31}, "Memory is 31 MiB"),
        ({"execution_seconds": 0}, "Time per step is 0 seconds: write at least 1"),
        ({"seconds": 1 << 60}, "The limit seconds is"),
        ({"cost": 0}, "Money is 0 US cents: write at least 1, or leave it empty."),
    ],
)
def test_a_limit_out_of_range_is_told_in_a_sentence(written: Mapping[str, int], sentence: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        read_own_limits(written)
    assert str(error.value).startswith(sentence)
