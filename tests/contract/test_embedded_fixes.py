"""What the gateway puts right in the answers of @supabase/lite.

Each test asks lite itself, on its Unix socket, and fails when lite answers as hosted Supabase does: then the
fix in `embedded_supabase/gateway/rewrites.py` or `lite.mjs` can go.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError
from supabase_auth.types import User

from embedded_supabase.node import PACKAGE_FOLDER, find_node
from tests.embedded_fixtures import RunningSupabase

BARE_LITE = Path(__file__).with_name("embedded_bare_lite.mjs")
DRIVER_POOL = Path(__file__).with_name("embedded_driver_pool.mjs")


@pytest.fixture
def lite(small_supabase: RunningSupabase) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(small_supabase.state / "run" / "lite.sock"))
    with httpx.Client(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def as_person(supabase: RunningSupabase) -> tuple[str, dict[str, str]]:
    account = supabase.sign_up()
    headers = {"apikey": supabase.publishable_key, "authorization": f"Bearer {account['access_token']}"}
    return account["user"]["id"], headers


def readable(user: Any) -> bool:
    try:
        TypeAdapter(User).validate_python(user)
    except ValidationError:
        return False
    return True


def test_times_of_auth_need_the_fix(small_supabase: RunningSupabase, lite: httpx.Client) -> None:
    _, headers = as_person(small_supabase)
    assert not readable(lite.get("/auth/v1/user", headers=headers).json()), "lite is fixed: remove iso_times"
    assert readable(httpx.get(f"{small_supabase.url}/auth/v1/user", headers=headers).json())


def test_signed_urls_need_the_fix(small_supabase: RunningSupabase, lite: httpx.Client) -> None:
    own, headers = as_person(small_supabase)
    path = f"/storage/v1/object/artifacts/{own}/a.txt"
    assert httpx.post(small_supabase.url + path, content=b"a", headers=headers).status_code == 200
    sign = path.replace("/object/", "/object/sign/")
    bare = lite.post(sign, json={"expiresIn": 60}, headers=headers).json()
    assert "signedURL" not in bare, "lite is fixed: remove signed_urls"
    fixed = httpx.post(small_supabase.url + sign, json={"expiresIn": 60}, headers=headers).json()
    assert fixed["signedURL"].startswith(f"/object/sign/artifacts/{own}/a.txt?token=")
    assert httpx.get(f"{small_supabase.url}/storage/v1{fixed['signedURL']}").content == b"a"


def test_tokens_without_three_parts_need_the_fix(small_supabase: RunningSupabase, lite: httpx.Client) -> None:
    headers = {"apikey": small_supabase.publishable_key, "authorization": "Bearer nonsense"}
    bare = lite.get("/rest/v1/notes", headers=headers)
    assert bare.status_code == 200, "lite is fixed: remove check_bearer"
    assert httpx.get(f"{small_supabase.url}/rest/v1/notes", headers=headers).status_code == 401


def bare_answers(supabase: RunningSupabase, *calls: tuple[str, Any]) -> list[Any]:
    """What lite says to the secret key without the fixes of lite.mjs: status and content of each answer."""
    done = subprocess.run(
        [
            str(find_node().programme),
            "--disable-warning=ExperimentalWarning",
            "--input-type=module",
            "-",
            str(supabase.state / "lite"),
            supabase.secret_key,
            *(json.dumps({"path": path, "body": body}) for path, body in calls),
        ],
        cwd=PACKAGE_FOLDER,  # where the packages are
        env={
            "PATH": os.environ["PATH"],
            "DO_NOT_TRACK": "1",
            "PGHOST": str(httpx.URL(supabase.database_url).params["host"]),
            "PGUSER": "postgres",
            "SUPABASE_AUTH_JWT_SECRET": supabase.jwt_secret,
            "SUPABASE_PUBLISHABLE_KEY": supabase.publishable_key,
            "SUPABASE_SECRET_KEY": supabase.secret_key,
        },
        input=BARE_LITE.read_text(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return list(json.loads(done.stdout))


def test_sqlstates_need_the_fix(small_supabase: RunningSupabase) -> None:
    owner, _ = as_person(small_supabase)
    states = {"P0001": 400, "AS001": 400, "28000": 403, "08006": 503, "40001": 500, "57014": 500}
    calls: list[tuple[str, Any]] = [("/rest/v1/notes", {"owner": owner, "body": "forbidden"})]
    calls += [("/rest/v1/rpc/fail_with", {"state": state}) for state in states]
    for (status, content), call in zip(bare_answers(small_supabase, *calls), calls, strict=True):
        lost = (status, content["code"]) == (500, "SUP")
        assert lost, f"lite is fixed for {call}: remove normalizeDbError from lite.mjs"

    headers = {"apikey": small_supabase.secret_key}
    refused, *raised = (
        httpx.post(small_supabase.url + path, json=body, headers=headers) for path, body in calls
    )
    assert [answer.status_code for answer in (refused, *raised)] == [400, *states.values()]
    assert refused.json()["code"] == "23514"
    assert refused.json()["message"].startswith('new row for relation "notes" violates check constraint')
    assert "forbidden" in refused.json()["details"]
    for answer, state in zip(raised, states, strict=True):
        words = {"message": "It is late.", "details": "Very late.", "hint": "Go to bed."}
        assert answer.json() == {"code": state, **words}


@pytest.mark.parametrize(
    ("state", "status"), [("23505", 409), ("23502", 400), ("42501", 403), ("22003", 400), ("PT418", 418)]
)
def test_sqlstates_that_lite_knows_are_left_to_it(
    small_supabase: RunningSupabase, state: str, status: int
) -> None:
    answer = httpx.post(
        f"{small_supabase.url}/rest/v1/rpc/fail_with",
        json={"state": state},
        headers={"apikey": small_supabase.secret_key},
    )
    assert (answer.status_code, answer.json()["code"]) == (status, state)
    assert answer.json()["message"] == "It is late."


def test_the_public_socket_of_lite_needs_a_key_as_well(lite: httpx.Client) -> None:
    assert lite.get("/rest/v1/notes").status_code == 401
    assert lite.get("/rest/v1/notes", headers={"apikey": "sb_secret_guessed"}).status_code == 401


def test_requests_lost_by_the_pool_of_the_driver_need_the_fix(
    small_supabase: RunningSupabase, tmp_path: Path
) -> None:
    for kind in ("driver", "ours"):
        (tmp_path / kind).mkdir()
    database = Path(small_supabase.database_url.split("host=")[1]) / ".s.PGSQL.5432"
    done = subprocess.run(
        [
            str(find_node().programme),
            "--input-type=module",
            "-",
            str(PACKAGE_FOLDER / "pool.mjs"),
            str(tmp_path),
            str(database),
        ],
        cwd=PACKAGE_FOLDER,
        input=DRIVER_POOL.read_text(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answered = json.loads(done.stdout)
    assert "nothing" in answered["driver"], "the driver is fixed: pool.mjs may go"
    assert sorted(answered["ours"]) == ["connection", "error"]
