"""Who may write and read hosts, limits, secrets and variables: through the API, as people do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest

from pythonic_assistant.adapters.secrets.keyring import key_of
from pythonic_assistant.adapters.secrets.vault import generate_key, seal, unseal
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.hosts import read_host
from pythonic_assistant.domain.limits import LEAST, MOST, read_limits
from tests.embedded_fixtures import RunningSupabase

pytestmark = pytest.mark.timeout(60)

KEY = key_of(generate_key())


@dataclass(frozen=True)
class Someone:
    """A caller of the REST API."""

    client: httpx.Client
    id: str = ""

    def get(self, path: str) -> httpx.Response:
        return self.client.get(f"/rest/v1/{path}")

    def post(self, path: str, row: Any, prefer: str = "return=minimal") -> httpx.Response:
        return self.client.post(f"/rest/v1/{path}", json=row, headers={"Prefer": prefer})

    def patch(self, path: str, row: Any) -> httpx.Response:
        return self.client.patch(f"/rest/v1/{path}", json=row, headers={"Prefer": "return=minimal"})

    def delete(self, path: str) -> httpx.Response:
        return self.client.delete(f"/rest/v1/{path}")

    def rpc(self, function: str, **arguments: Any) -> httpx.Response:
        return self.client.post(f"/rest/v1/rpc/{function}", json=arguments)

    def thread(self) -> str:
        made = self.post("threads", {"title": "T"}, "return=representation")
        assert made.status_code == 201, made.text
        return made.json()[0]["id"]

    def set_secret(self, name: str = "TOKEN", value: str = "the value", **columns: Any) -> httpx.Response:
        row = {
            "name": name,
            "hosts": ["api.github.com"],
            "ciphertext": seal(KEY.public_key, value),
            "key_id": KEY.key_id,
        }
        return self.rpc("set_secret", **(row | columns))


def caller(running: RunningSupabase, key: str, token: str, who: str = "") -> Someone:
    headers = {"apikey": key, "Authorization": f"Bearer {token}"}
    return Someone(httpx.Client(base_url=running.url, headers=headers, timeout=20), who)


@pytest.fixture
def worker(embedded_supabase: RunningSupabase) -> Iterator[Someone]:
    made = caller(embedded_supabase, embedded_supabase.secret_key, embedded_supabase.secret_key)
    row = {"key_id": KEY.key_id, "public_key": KEY.public_key}
    made.post("secret_keys", row, "resolution=merge-duplicates,return=minimal").raise_for_status()
    yield made
    made.client.close()


def signed_up(running: RunningSupabase) -> Someone:
    account = running.sign_up()
    return caller(running, running.publishable_key, account["access_token"], account["user"]["id"])


@pytest.fixture
def ann(embedded_supabase: RunningSupabase, worker: Someone) -> Iterator[Someone]:
    made = signed_up(embedded_supabase)
    yield made
    made.client.close()


@pytest.fixture
def bob(embedded_supabase: RunningSupabase, worker: Someone) -> Iterator[Someone]:
    made = signed_up(embedded_supabase)
    yield made
    made.client.close()


@pytest.fixture
def nobody(embedded_supabase: RunningSupabase) -> Iterator[Someone]:
    made = caller(embedded_supabase, embedded_supabase.publishable_key, embedded_supabase.publishable_key)
    yield made
    made.client.close()


# --- Hosts and limits ---


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


# --- Secrets ---


def test_a_secret_is_written_replaced_listed_and_removed_but_never_read(
    ann: Someone, worker: Someone
) -> None:
    assert ann.set_secret(value="first value").status_code in {200, 204}
    assert ann.set_secret(value="second value", hosts=["EXAMPLE.org"]).status_code in {200, 204}
    (row,) = ann.get("secrets?select=name,hosts,raw,key_id,last_used_at").json()
    assert row == {
        "name": "TOKEN",
        "hosts": ["example.org"],
        "raw": False,
        "key_id": KEY.key_id,
        "last_used_at": None,
    }
    for path in (
        "secrets",
        "secrets?select=*",
        "secrets?select=ciphertext",
        "secrets?select=name&ciphertext=like.A*",
        "secrets?select=name&order=ciphertext",
        "profiles?select=secrets(ciphertext)",
    ):
        answer = ann.get(path)
        assert answer.status_code >= 400, (path, answer.text)
    kept = worker.get(f"secrets?user_id=eq.{ann.id}&select=id,ciphertext").json()
    assert [unseal(KEY.private_key, item["ciphertext"]) for item in kept] == ["second value"]
    worker.rpc("secret_used", ids=[kept[0]["id"]]).raise_for_status()
    assert ann.get("secrets?select=last_used_at").json()[0]["last_used_at"] is not None
    ann.delete("secrets?name=eq.TOKEN").raise_for_status()
    assert ann.get("secrets?select=name").json() == []


def test_a_returned_row_does_not_show_the_ciphertext_either(ann: Someone) -> None:
    row = {
        "name": "TOKEN",
        "hosts": ["a.example.org"],
        "ciphertext": seal(KEY.public_key, "the value"),
        "key_id": KEY.key_id,
    }
    assert ann.post("secrets", row, "return=representation").status_code >= 400
    assert ann.post("secrets?select=name,hosts", row, "return=representation").json() == [
        {"name": "TOKEN", "hosts": ["a.example.org"]}
    ]


@pytest.mark.parametrize("change", [{"hosts": ["evil.example.org"]}, {"raw": True}])
def test_hosts_of_a_secret_cannot_be_changed_without_its_value(ann: Someone, change: dict[str, Any]) -> None:
    ann.set_secret(hosts=["api.github.com"]).raise_for_status()
    assert ann.patch("secrets?name=eq.TOKEN", change).status_code in {401, 403}
    (row,) = ann.get("secrets?select=hosts,raw").json()
    assert row == {"hosts": ["api.github.com"], "raw": False}


def test_secrets_of_others_are_out_of_reach(ann: Someone, bob: Someone, nobody: Someone) -> None:
    ann.set_secret().raise_for_status()
    for stranger in (bob, nobody):
        answer = stranger.get("secrets?select=id,name")
        assert answer.status_code in {401, 403} or answer.json() == []
        stranger.patch(f"secrets?user_id=eq.{ann.id}", {"hosts": ["evil.example.org"]})
        stranger.delete(f"secrets?user_id=eq.{ann.id}")
    row = {
        "name": "X_TOKEN",
        "hosts": ["a.example.org"],
        "ciphertext": seal(KEY.public_key, "the value"),
        "key_id": KEY.key_id,
        "user_id": ann.id,
    }
    assert bob.post("secrets", row).status_code in {401, 403}
    assert nobody.set_secret().status_code in {401, 403, 404}
    assert bob.patch("secrets?name=eq.TOKEN", {"user_id": bob.id}).status_code in {401, 403}
    assert ann.get("secrets?select=name,hosts").json() == [{"name": "TOKEN", "hosts": ["api.github.com"]}]


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "LD_PRELOAD",
        "HTTPS_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "AWS_CA_BUNDLE",
        "AWS_ENDPOINT_URL_S3",
        "GIT_SSL_CAINFO",
        "BASH_ENV",
        "LC_ALL",
    ],
)
def test_a_name_that_programs_obey_is_refused(ann: Someone, name: str) -> None:
    answer = ann.set_secret(name)
    assert answer.status_code == 400, answer.text
    assert "choose another" in answer.json()["message"]


@pytest.mark.parametrize(
    "name", ["GITHUB_TOKEN", "AWS_ACCESS_KEY_ID", "PGPASSWORD", "HOMEPAGE_KEY", "LDAP_PASSWORD"]
)
def test_ordinary_names_are_taken(ann: Someone, name: str) -> None:
    assert ann.set_secret(name).status_code in {200, 204}


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"name": "token"}, "like an environment variable"),
        ({"name": "A B"}, "like an environment variable"),
        ({"hosts": []}, "at least one host"),
        ({"hosts": [f"h{number}.example.org" for number in range(21)]}, "at most 20"),
        ({"key_id": "0" * 16}, "no worker has published"),
        ({"ciphertext": "plain value, not sealed!"}, "no base64"),
        ({"ciphertext": "AAAA"}, "empty, or longer"),
        ({"ciphertext": "A" * 100_004}, "empty, or longer"),
    ],
    ids=str,
)
def test_an_impossible_secret_is_refused_in_a_sentence(
    ann: Someone, columns: dict[str, Any], sentence: str
) -> None:
    answer = ann.set_secret(**columns)
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["message"]
    assert ann.get("secrets?select=name").json() == []


def test_a_secret_cannot_be_moved_to_a_name_that_is_taken_by_the_system(ann: Someone) -> None:
    ann.set_secret().raise_for_status()
    assert ann.patch("secrets?name=eq.TOKEN", {"name": "PATH"}).status_code >= 400
    assert ann.patch("secrets?name=eq.TOKEN", {"last_used_at": None}).status_code in {401, 403}


def test_only_workers_publish_keys(ann: Someone, nobody: Someone, worker: Someone) -> None:
    other = key_of(generate_key())
    row = {"key_id": other.key_id, "public_key": other.public_key}
    for attacker in (ann, nobody):
        assert attacker.post("secret_keys", row).status_code in {401, 403}
        changed = attacker.patch(f"secret_keys?key_id=eq.{KEY.key_id}", {"public_key": other.public_key})
        assert changed.status_code in {401, 403}
        assert attacker.delete(f"secret_keys?key_id=eq.{KEY.key_id}").status_code in {401, 403}
    assert ann.get(f"secret_keys?key_id=eq.{KEY.key_id}&select=public_key").json() == [
        {"public_key": KEY.public_key}
    ]
    seen = nobody.get("secret_keys?select=public_key")
    assert seen.status_code in {401, 403} or seen.json() == []
    assert worker.post("secret_keys", row | {"public_key": "no key"}).status_code == 400


def test_functions_of_workers_are_closed_to_people(ann: Someone, bob: Someone, nobody: Someone) -> None:
    for attacker in (bob, nobody):
        for function, arguments in {
            "earlier_tasks": {"person": ann.id, "words": "", "most": 5},
            "thread_files": {"thread": ann.thread()},
            "secret_used": {"ids": []},
        }.items():
            assert attacker.rpc(function, **arguments).status_code in {401, 403, 404}


# --- Variables ---


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
