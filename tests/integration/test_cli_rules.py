"""`pythonic rules`, as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from pythonic_assistant.adapters.secrets.keyring import key_of
from pythonic_assistant.adapters.secrets.vault import generate_key, unseal
from tests.embedded_fixtures import RunningSupabase

pytestmark = pytest.mark.timeout(90)

ROOT = Path(__file__).parents[2]
URL = "https://hooks.example.org/tasks"


class Terminal:
    """Somebody with an account, at a terminal; and the database behind it."""

    def __init__(self, backend: RunningSupabase) -> None:
        account = backend.sign_up()
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "SUPABASE_URL": backend.url,
            "SUPABASE_PUBLISHABLE_KEY": backend.publishable_key,
            "PYTHONIC_EMAIL": account["email"],
            "PYTHONIC_PASSWORD": account["password"],
        }
        self.person = account["user"]["id"]
        key = backend.secret_key
        self.database = httpx.Client(
            base_url=f"{backend.url}/rest/v1",
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
            timeout=20,
        )

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "pythonic_assistant.cli", "rules", *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            cwd="/",
            env=self.environment,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def rows(self, path: str) -> list[dict[str, Any]]:
        return self.database.get(f"/{path}", params={"user_id": f"eq.{self.person}"}).json()


def test_rules_at_a_terminal(embedded_supabase: RunningSupabase) -> None:
    person = Terminal(embedded_supabase)
    key = key_of(generate_key())
    row = {"key_id": key.key_id, "public_key": key.public_key, "published_at": "2099-01-01T00:00:00Z"}
    assert person.database.post("/secret_keys", json=row).status_code == 201
    try:
        listed = person.run("list")
        assert "Tell me when a task fails" in listed.stdout
        assert "PYTHONIC_SMTP_URL and PYTHONIC_MAIL_FROM" in listed.stderr

        made = person.json("add", "The team", "--state", "failed", "--verdict", "refuted", "--webhook", URL)
        (secret,) = person.rows("secrets")
        assert unseal(key.private_key, secret["ciphertext"]) == made["signing_secret"]
        assert (secret["name"], secret["hosts"]) == ("WEBHOOK_THE_TEAM", ["hooks.example.org"])
        assert made["pattern"] == {"states": ["failed"], "verdicts": ["refuted"]}
        assert made["signing_secret"] not in json.dumps(person.json("list"))

        for wrong, sentence in (
            (("--webhook", "http://hooks.example.org/"), "begins with http://"),
            (("--webhook", "https://10.0.0.1/"), "address"),
            (("--webhook", URL, "--state", "done"), "There is no state 'done'"),
            (("--task", "{answr}"), "the fields are {prompt}"),
            (("--email", "nobody"), "is no e-mail address"),
        ):
            done = person.run("add", "Wrong", *wrong, code=2)
            (line,) = done.stderr.splitlines()
            assert sentence in line
            assert len(person.rows("secrets")) == 1, "nothing is left of a rule that was refused"
        assert "no rule 'Nobody'" in person.run("pause", "Nobody", code=2).stderr

        assert person.json("test", "the team")["name"] == "The team"
        assert person.json("pause", "The team") == {"name": "The team", "enabled": False}
        (dead,) = person.json("deliveries", "--dead")
        assert (dead["event"], dead["last_error"]) == ("rule.test", "The rule was paused.")
        assert "paused" in person.run("resend", dead["id"][:8], code=2).stderr
        person.run("resume", "The team")
        assert person.json("resend", "dead") == {"resent": [dead["id"]]}
        assert [row["state"] for row in person.rows("deliveries")] == ["pending"]
        assert "The team" in person.run("deliveries").stdout
        assert "No delivery begins" in person.run("resend", "0000-0", code=2).stderr
        person.run("remove", "The team")
        assert person.rows("deliveries") == []
    finally:
        person.database.delete("/secret_keys", params={"key_id": f"eq.{key.key_id}"})
        person.database.close()
