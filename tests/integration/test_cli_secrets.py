"""`pythonic secrets` and `pythonic ask --allow`, as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from pythonic_assistant.adapters.secrets.keyring import key_of
from pythonic_assistant.adapters.secrets.vault import generate_key, unseal
from tests.embedded_fixtures import RunningSupabase

pytestmark = pytest.mark.timeout(60)

CANARY = "cli-canary-4711"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Person:
    """Somebody with an account, at a terminal."""

    environment: dict[str, str]
    folder: Path

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pythonic_assistant.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            cwd=self.folder,
            env=self.environment,
        )

    def json(self, *arguments: str, stdin: str = "") -> Any:
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def database(embedded_supabase: RunningSupabase) -> Iterator[httpx.Client]:
    """The REST API with the secret key."""
    key = embedded_supabase.secret_key
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"{embedded_supabase.url}/rest/v1", headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
def private_key(database: httpx.Client) -> Iterator[str]:
    """Of the worker that started last; those that other tests start meanwhile count as earlier."""
    key = key_of(generate_key())
    soon = datetime.now(UTC) + timedelta(minutes=5)
    row = {"key_id": key.key_id, "public_key": key.public_key, "published_at": soon.isoformat()}
    database.post("/secret_keys", json=row).raise_for_status()
    yield key.private_key
    past = {"published_at": "2026-01-01T00:00:00Z"}
    database.patch(f"/secret_keys?key_id=eq.{key.key_id}", json=past).raise_for_status()


@pytest.fixture
def person(embedded_supabase: RunningSupabase, tmp_path: Path) -> Person:
    account = embedded_supabase.sign_up()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SUPABASE_URL": embedded_supabase.url,
        "SUPABASE_PUBLISHABLE_KEY": embedded_supabase.publishable_key,
        "PYTHONIC_EMAIL": account["email"],
        "PYTHONIC_PASSWORD": account["password"],
    }
    return Person(environment, tmp_path)


def test_a_secret_is_sealed_listed_replaced_and_removed(
    person: Person, private_key: str, database: httpx.Client
) -> None:
    made = person.json("secrets", "set", "TOKEN", "--host", "API.example.org", stdin=f"{CANARY}\n")
    assert made == {"name": "TOKEN", "hosts": ["api.example.org"], "raw": False}
    person.json("secrets", "set", "TOKEN", "--host", "b.example.org", "--raw", stdin=f"{CANARY}-2\nline")
    (row,) = person.json("secrets", "list")
    assert (row["name"], row["hosts"], row["raw"], row["last_used_at"]) == (
        "TOKEN",
        ["b.example.org"],
        True,
        None,
    )
    kept = [item for item in database.get("/secrets?name=eq.TOKEN").json() if item["key_id"] == row["key_id"]]
    assert [unseal(private_key, item["ciphertext"]) for item in kept] == [f"{CANARY}-2\nline"]
    shown = person.run("secrets", "list")
    assert "TOKEN" in shown.stdout
    assert CANARY not in shown.stdout + json.dumps([row, made, kept])
    assert person.json("secrets", "remove", "TOKEN") == {"name": "TOKEN", "removed": True}
    assert person.json("secrets", "list") == []
    assert "pythonic secrets set" in person.run("secrets", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "value", "sentence"),
    [
        (("set", "TOKEN", "--host", "https://a.example.org"), CANARY, "has a scheme"),
        (("set", "TOKEN", "--host", "*.example.org"), CANARY, "has a wildcard"),
        (("set", "PATH", "--host", "a.example.org"), CANARY, "choose another"),
        (("set", "my token", "--host", "a.example.org"), CANARY, "like an environment variable"),
        (("set", "TOKEN", "--host", "a.example.org"), "", "fewer than 6"),
        (("set", "TOKEN"), CANARY, "--host"),
        (("remove", "NOTHING"), "", "no secret 'NOTHING'"),
    ],
)
def test_mistakes_are_a_sentence_without_the_value(
    person: Person, private_key: str, arguments: tuple[str, ...], value: str, sentence: str
) -> None:
    done = person.run("secrets", *arguments, stdin=value)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_a_value_is_never_taken_from_the_arguments(person: Person, private_key: str) -> None:
    done = person.run("secrets", "set", "TOKEN", CANARY, "--host", "a.example.org")
    assert done.returncode == 2
    assert person.json("secrets", "list") == []


def test_a_host_to_allow_is_checked_before_anything_is_sent(person: Person) -> None:
    done = person.run("ask", "do it", "--allow", "10.0.0.1")
    assert done.returncode == 2
    assert "is an address" in done.stderr


def test_allowed_hosts_come_with_the_task(person: Person, database: httpx.Client) -> None:
    command = [sys.executable, "-m", "pythonic_assistant.cli", "ask", f"look at {person.folder}", "--json"]
    asking = subprocess.Popen(
        [*command, "--allow", "API.github.com", "--allow", "example.org"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=person.folder,
        env=person.environment,
    )
    try:
        rows: list[dict[str, Any]] = []
        while not rows:
            assert asking.poll() is None
            query = {"prompt": f"eq.look at {person.folder}", "select": "hosts"}
            rows = database.get("/tasks", params=query).json()
        assert rows == [{"hosts": ["api.github.com", "example.org"]}]
    finally:
        asking.kill()
        asking.wait()
