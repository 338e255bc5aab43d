"""`pythonic spend`, as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from tests.embedded_fixtures import RunningSupabase

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]


async def test_spending_is_told_in_words_and_in_json(
    embedded_supabase: RunningSupabase, tmp_path: Path
) -> None:
    account = embedded_supabase.sign_up()
    person = UUID(account["user"]["id"])
    database = await asyncpg.connect(embedded_supabase.database_url)
    await database.execute("update public.profiles set daily_cost = 2.5 where id = $1", person)
    await database.executemany(
        """insert into public.usage
            (user_id, attempt, seq, model, input_tokens, cached_tokens, output_tokens, cost)
        values ($1, 1, $2, $3, 1000, 500, 200, $4::float8::numeric)""",
        [(person, 1, "m-1", 0.25), (person, 2, "m-1", None), (person, 3, "local\x1b[31m", None)],
    )
    await database.close()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "PYTHONIC_HOME": str(tmp_path / "home"),
        "SUPABASE_URL": embedded_supabase.url,
        "SUPABASE_PUBLISHABLE_KEY": embedded_supabase.publishable_key,
        "PYTHONIC_EMAIL": account["email"],
        "PYTHONIC_PASSWORD": account["password"],
        "COLUMNS": "120",
    }

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "pythonic_assistant.cli", "spend", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, cwd=tmp_path, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = run()
    assert ", UTC): $0.2500 of $2.50, 3,600 tokens; the cost of 2 replies is unknown." in told
    assert "$0.2500+" in told
    assert "unknown" in told.splitlines()[-1] or "unknown" in told.splitlines()[-2]
    assert "\x1b[31m" not in told
    found = json.loads(run("--json"))
    assert (found["today"]["cost"], found["today"]["unpriced"], found["today"]["daily_cost"]) == (
        0.25,
        2,
        2.5,
    )
    assert {row["model"]: row["cost"] for row in found["days"]} == {"m-1": 0.25, "local\x1b[31m": None}
