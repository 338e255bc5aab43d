"""What the gateway puts right in the answers of @supabase/lite.

Each test asks lite itself, on its Unix socket, and fails when lite answers as hosted Supabase does: then the
fix in `embedded_supabase/gateway/rewrites.py` or `lite.mjs` can go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError
from supabase_auth.types import User

from tests.embedded_fixtures import RunningSupabase


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


def test_the_public_socket_of_lite_needs_a_key_as_well(lite: httpx.Client) -> None:
    assert lite.get("/rest/v1/notes").status_code == 401
    assert lite.get("/rest/v1/notes", headers={"apikey": "sb_secret_guessed"}).status_code == 401
