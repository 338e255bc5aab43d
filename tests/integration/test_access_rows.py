"""Who may write and read hosts, limits and variables: through the API, as people do."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.hosts import read_host
from pythonic_assistant.domain.limits import LEAST, MOST, read_limits
from tests.embedded_fixtures import RunningSupabase
from tests.integration.callers import Someone

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("https://api.github.com", "has a scheme"),
        ("*.github.com", "has a wildcard"),
        ("api.github.com:443", "more than a name"),
        ("api.github.com/x", "more than a name"),
        ("127.0.0.1", "is an address"),
        ("0x7f.1", "is an address"),
        ("localhost", "is no host name"),
        ("", "is no host name"),
    ],
)
def test_a_host_that_is_none_is_refused_in_a_sentence_wherever_it_is_written(
    ann: Someone, host: str, sentence: str
) -> None:
    thread = ann.thread()
    for answer in (
        ann.patch(f"threads?id=eq.{thread}", {"hosts": [host]}),
        ann.post("threads", {"title": "T", "hosts": [host]}),
        ann.post("assistants", {"name": "A", "hosts": [host]}),
        ann.post("tasks", {"prompt": "do it", "hosts": [host]}),
        ann.rpc("enqueue_task", prompt="do it", hosts=[host]),
        ann.set_secret(hosts=[host]),
    ):
        assert answer.status_code == 400, answer.text
        assert sentence in answer.json()["message"]


@pytest.mark.parametrize(
    "host",
    [
        "api.github.com",
        "a-b.example.org",
        "xn--bcher-kva.example",
        "1.example.org",
        "a.1x",
        "-a.example.org",
        "a-.example.org",
        "a..b",
        "a.b-",
        "ex_ample.org",
        "größe.de",
        "a.0x1f",
        "a.12",
        "127.1",
        "[::1]",
        "fe80::1",
        "user@example.org",
        "x" * 64 + ".org",
        "x" * 63 + ".org",
        ".".join(["x" * 60] * 5),
        "example.org\n",
        "a b.org",
    ],
)
async def test_database_and_library_agree_on_what_a_host_is(
    embedded_supabase: RunningSupabase, host: str
) -> None:
    try:
        good = read_host(host) == host
    except InvalidInputError:
        good = False
    connection = await asyncpg.connect(embedded_supabase.database_url)
    try:
        assert await connection.fetchval("select pythonic.is_host($1)", host) is good
    finally:
        await connection.close()


async def test_database_and_library_agree_on_the_limits(embedded_supabase: RunningSupabase) -> None:
    connection = await asyncpg.connect(embedded_supabase.database_url)
    cases: list[dict[str, Any]] = [{}, {"nonsense": 1}]
    for name, least in LEAST.items():
        cases += [{name: value} for value in (least, least - 1, MOST, MOST + 1, -1, "1", None, True, [least])]
    try:
        for case in cases:
            try:
                read_limits(case)
                good = True
            except InvalidInputError:
                good = False
            problem = await connection.fetchval("select pythonic.limits_problem($1)", json.dumps(case))
            assert (problem is None) is good, (case, problem)
        assert await connection.fetchval("select pythonic.limits_problem('[]')") is not None
        assert await connection.fetchval("select pythonic.limits_problem('{\"turns\": 1.5}')") is not None
    finally:
        await connection.close()


def test_hosts_are_tidied_and_kept_once(ann: Someone) -> None:
    thread = ann.thread()
    given = {"hosts": [" API.GitHub.com.", "example.org", "api.github.com"]}
    assert ann.patch(f"threads?id=eq.{thread}", given).status_code == 204
    (row,) = ann.get(f"threads?id=eq.{thread}&select=hosts").json()
    assert row == {"hosts": ["api.github.com", "example.org"]}


def test_too_many_hosts_are_refused(ann: Someone) -> None:
    answer = ann.post("threads", {"title": "T", "hosts": [f"h{number}.example.org" for number in range(51)]})
    assert answer.status_code == 400
    assert "at most 50" in answer.json()["message"]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"memory_bytes": -1}, "memory_bytes is -1"),
        ({"memory": 1 << 30}, "There is no limit 'memory'"),
        ({"turns": 2.5}, "whole number"),
        ([], "as an object"),
    ],
)
def test_impossible_limits_are_refused_in_a_sentence(ann: Someone, limits: Any, sentence: str) -> None:
    for answer in (
        ann.post("assistants", {"name": "A", "limits": limits}),
        ann.rpc("enqueue_task", prompt="do it", limits=limits),
    ):
        assert answer.status_code == 400, answer.text
        assert sentence in answer.json()["message"]


def test_nobody_changes_what_the_tasks_of_others_may_reach(ann: Someone, bob: Someone) -> None:
    task = ann.rpc("enqueue_task", prompt="do it").json()
    task = task[0] if isinstance(task, list) else task
    ann_assistant = ann.post("assistants", {"name": "A"}, "return=representation").json()[0]["id"]
    builtin = "00000000-0000-4000-8000-000000000001"
    hosts = {"hosts": ["evil.example.org"]}
    for attacker in (bob, ann):  # a task is what it was when it was asked, for its owner too
        assert attacker.patch(f"tasks?id=eq.{task['id']}", hosts).status_code in {401, 403}
    bob.patch(f"threads?id=eq.{task['thread_id']}", hosts)
    bob.patch(f"assistants?id=eq.{ann_assistant}", hosts)
    ann.patch(f"assistants?id=eq.{builtin}", hosts)
    assert bob.post("tasks", {"prompt": "x", "thread_id": task["thread_id"], **hosts}).status_code >= 400
    assert bob.post("tasks", {"prompt": "x", "user_id": ann.id, **hosts}).status_code >= 400
    assert ann.get(f"tasks?id=eq.{task['id']}&select=hosts").json() == [{"hosts": []}]
    assert ann.get(f"threads?id=eq.{task['thread_id']}&select=hosts").json() == [{"hosts": []}]
    rows = ann.get("assistants?select=hosts,limits").json()
    assert len(rows) >= 3
    assert all(row == {"hosts": [], "limits": {}} for row in rows)


def test_functions_of_workers_are_closed_to_people(ann: Someone, bob: Someone, nobody: Someone) -> None:
    for attacker in (bob, nobody):
        for function, arguments in {
            "earlier_tasks": {"person": ann.id, "words": "", "most": 5},
            "thread_files": {"thread": ann.thread()},
            "secret_used": {"ids": []},
        }.items():
            assert attacker.rpc(function, **arguments).status_code in {401, 403, 404}


def test_variables_are_written_by_workers_alone(ann: Someone, bob: Someone, worker: Someone) -> None:
    thread = ann.thread()
    row = {
        "thread_id": thread,
        "name": "frame",
        "type": "pandas.DataFrame",
        "bytes": 9,
        "media_type": "application/vnd.apache.parquet",
        "load": "pandas.read_parquet({path!r})",
        "storage_path": f"{ann.id}/variables/{thread}/frame.parquet",
        "user_id": ann.id,
    }
    assert ann.post("variables", row).status_code in {401, 403}
    worker.post("variables", row).raise_for_status()
    assert ann.patch("variables?name=eq.frame", {"storage_path": f"{bob.id}/x"}).status_code in {401, 403}
    assert bob.get("variables?select=name").json() == []
    bob.delete("variables?name=eq.frame")
    assert ann.get("variables?select=name").json() == [{"name": "frame"}]
    ann.delete(f"threads?id=eq.{thread}").raise_for_status()
    assert worker.get(f"variables?thread_id=eq.{thread}").json() == []
