"""Secrets through the whole assistant: after a task that had them, no file holds a value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pythonic_assistant.adapters.secrets.vault import key_id_of, public_key_of
from tests.acceptance.stack import ROOT, Stack, running_stack, until

pytestmark = pytest.mark.timeout(180)

SWAPPED, RAW = "swapped-canary-b7e2", "raw-canary-90fd"
PROMPT = "Make a table of the mean body mass by species and sex, and save it as CSV"


def keep(stack: Stack, name: str, value: str, *options: str) -> None:
    """Enter a secret at the command line."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pythonic_assistant.cli"),
            *("secrets", "set", name, "--host", "api.example.org", *options),
        ],
        input=value,
        cwd=ROOT,
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


def test_a_value_is_in_no_row_log_or_file(tmp_path: Path) -> None:
    with running_stack() as stack:
        key_file = stack.home / "worker" / "secrets.key"
        keys = until(lambda: stack.rest("GET", "secret_keys"), seconds=20, what="the worker's key")
        assert key_file.stat().st_mode & 0o777 == 0o600
        assert keys[0]["key_id"] == key_id_of(public_key_of(key_file.read_text().strip()))

        keep(stack, "API_TOKEN", SWAPPED)
        keep(stack, "DB_PASSWORD", RAW, "--raw")
        result = stack.ask(
            PROMPT,
            ROOT / "examples" / "penguins.csv",
            out=tmp_path / "out",
            arguments=["--allow", "api.example.org"],
        )
        assert (result["state"], result["verdict"]) == ("succeeded", "proven"), result
        assert stack.task(result["task_id"])["hosts"] == ["api.example.org"]
        notes = [
            event["data"]["text"] for event in stack.events(result["task_id"]) if event["kind"] == "noted"
        ]
        assert any("DB_PASSWORD" in note for note in notes), "a raw secret is told of"

        stack.stop()
        searched = 0
        for path in [*stack.home.rglob("*"), *stack.database.rglob("*"), *tmp_path.rglob("*")]:
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                searched += len(content)
                assert SWAPPED.encode() not in content, path
                assert RAW.encode() not in content, path
                assert path == key_file or key_file.read_bytes().strip() not in content, path
        assert searched > 1 << 20, "the database is among what was searched"


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("PYTHONIC_SECRETS_KEY", "bm90IGEga2V5", "PYTHONIC_SECRETS_KEY is no key"),
        ("PYTHONIC_PRIVATE_HOSTS", "*.example.org", "has a wildcard"),
    ],
)
def test_a_worker_with_an_impossible_setting_says_so(
    tmp_path: Path, setting: str, value: str, sentence: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin",
            "PYTHONIC_HOME": str(tmp_path),
            "SUPABASE_URL": "http://127.0.0.1:9",
            "SUPABASE_SECRET_KEY": "sb_secret_x",
            setting: value,
        },
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert sentence in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert setting != "PYTHONIC_SECRETS_KEY" or value not in done.stderr
