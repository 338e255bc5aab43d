"""supabase-js, in both versions of the Realtime protocol, against the embedded Supabase."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from embedded_supabase.node import PACKAGE_FOLDER, find_node
from tests.embedded_fixtures import RunningSupabase

SCRIPT = Path(__file__).with_name("embedded_client.mjs")


@pytest.fixture(scope="module")
def heard(small_supabase: RunningSupabase) -> dict[str, dict[str, object]]:
    person = small_supabase.sign_up()
    done = subprocess.run(
        [
            str(find_node().programme),
            str(SCRIPT),
            str(PACKAGE_FOLDER / "package.json"),
            small_supabase.url,
            small_supabase.publishable_key,
            small_supabase.secret_key,
            person["email"],
            person["password"],
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_supabase_js_works(heard: dict[str, dict[str, object]], version: str) -> None:
    said = heard[version]
    assert said["own"] == said["room"] == "SUBSCRIBED"
    assert said["note"] == f"from {version}"
    assert "Unauthorized" in str(said["stranger"])
    assert (said["acknowledged"], said["echo"]) == ("ok", {"vsn": version})
    assert said["came"] == "worker"
    assert (said["file"], said["blob"], said["sum"]) == ("text", "blob", 5)


def test_supabase_js_sends_bytes_in_version_two(heard: dict[str, dict[str, object]]) -> None:
    assert heard["2.0.0"]["bytes"] == [1, 2, 3]
