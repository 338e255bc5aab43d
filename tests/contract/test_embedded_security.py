"""Attempts on every door of the embedded Supabase."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import psutil
import pytest
import websockets

from embedded_supabase import studio_link
from tests.embedded_fixtures import RunningSupabase

PATHS = ("/rest/v1/notes", "/auth/v1/user", "/storage/v1/bucket", "/realtime/v1/api/broadcast")


def token(supabase: RunningSupabase, **changes: Any) -> str:
    account = supabase.sign_up()
    claims = jwt.decode(account["access_token"], options={"verify_signature": False}) | changes
    return jwt.encode(claims, supabase.jwt_secret, algorithm="HS256")


def unsigned(text: str) -> str:
    body = text.split(".")[1]
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode().rstrip("=")
    return f"{head}.{body}."


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", [None, "", "sb_secret_guessed", "sb_publishable_", "null"])
def test_no_request_passes_without_a_known_key(
    small_supabase: RunningSupabase, path: str, key: str | None
) -> None:
    headers = {} if key is None else {"apikey": key, "authorization": f"Bearer {key or 'x'}"}
    answer = httpx.request(
        "POST" if "broadcast" in path else "GET", small_supabase.url + path, headers=headers
    )
    assert answer.status_code == 401
    assert answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    ["/rest/v1/..%2f..%2f_system/info", "/storage/v1/object/public/..%2f..%2f..%2f..%2frest/v1/notes"],
)
def test_no_path_leads_around_the_check(small_supabase: RunningSupabase, path: str) -> None:
    headers = {"apikey": small_supabase.publishable_key}
    assert httpx.get(small_supabase.url + path, headers=headers).status_code == 400
    assert httpx.get(f"{small_supabase.url}/_system/info", headers=headers).status_code == 404


def test_forged_tokens_are_refused_by_rest(small_supabase: RunningSupabase) -> None:
    good = token(small_supabase)
    forged = {
        "none": unsigned(good),
        "signature": jwt.encode({"sub": "x", "role": "service_role", "exp": time.time() + 60}, "x" * 32),
        "expired": token(small_supabase, exp=int(time.time()) - 10),
        "cut": good[:-4],
        "garbage": "abc",
    }
    url, key = f"{small_supabase.url}/rest/v1/notes", small_supabase.publishable_key
    for name, text in forged.items():
        answer = httpx.get(url, headers={"apikey": key, "authorization": f"Bearer {text}"})
        assert answer.status_code == 401, name
    assert httpx.get(url, headers={"apikey": key, "authorization": f"Bearer {good}"}).status_code == 200


async def test_forged_tokens_join_nothing(small_supabase: RunningSupabase) -> None:
    good = token(small_supabase)
    forged = (
        unsigned(good),
        jwt.encode({"sub": "x", "role": "service_role", "exp": time.time() + 60}, "x" * 32),
        token(small_supabase, exp=int(time.time()) - 10),
        token(small_supabase, role="postgres"),
        "sb_secret_guessed",
    )
    for text in forged:
        assert (await first_reply(small_supabase, text))["status"] == "error"
    assert (await first_reply(small_supabase, good))["status"] == "ok"


async def first_reply(supabase: RunningSupabase, access_token: str) -> dict[str, Any]:
    async with websockets.connect(socket_url(supabase)) as socket:
        await socket.send(join("room:1", access_token))
        return json.loads(await asyncio.wait_for(socket.recv(), 5))["payload"]


def socket_url(supabase: RunningSupabase, key: str | None = None) -> str:
    base = supabase.url.replace("http", "ws")
    return f"{base}/realtime/v1/websocket?apikey={key or supabase.publishable_key}&vsn=1.0.0"


def join(topic: str, access_token: str) -> str:
    payload = {"config": {"private": True}, "access_token": access_token}
    return json.dumps(
        {"topic": f"realtime:{topic}", "event": "phx_join", "payload": payload, "ref": "1", "join_ref": "1"}
    )


async def test_a_channel_ends_with_its_token(small_supabase: RunningSupabase) -> None:
    short = token(small_supabase, exp=int(time.time()) + 2)
    async with websockets.connect(socket_url(small_supabase)) as socket:
        await socket.send(join("room:1", short))
        heard = [json.loads(await asyncio.wait_for(socket.recv(), 5)) for _ in range(4)]
    assert [message["event"] for message in heard] == ["phx_reply", "presence_state", "system", "phx_close"]
    assert heard[2]["payload"]["status"] == "error" and "expired" in heard[2]["payload"]["message"]


async def test_a_fresh_token_keeps_the_channel_and_a_bad_one_ends_it(small_supabase: RunningSupabase) -> None:
    short = token(small_supabase, exp=int(time.time()) + 2)
    async with websockets.connect(socket_url(small_supabase)) as socket:
        await socket.send(join("room:1", short))
        await socket.recv()
        await socket.recv()

        async def renew(text: str) -> None:
            message = {"topic": "realtime:room:1", "event": "access_token", "payload": {"access_token": text}}
            await socket.send(json.dumps({**message, "ref": "2", "join_ref": "1"}))

        await renew(token(small_supabase))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 2.5)
        await renew("nonsense")
        assert json.loads(await asyncio.wait_for(socket.recv(), 5))["event"] == "system"


async def test_the_websocket_refuses_before_the_upgrade(small_supabase: RunningSupabase) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(socket_url(small_supabase, "sb_publishable_guessed"))
    assert refused.value.response.status_code == 401
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(socket_url(small_supabase), origin=websockets.Origin("http://evil.example"))
    assert refused.value.response.status_code == 403


def test_another_host_or_page_is_refused_at_every_port(small_supabase: RunningSupabase) -> None:
    link = asyncio.run(studio_link(small_supabase.state))
    for url in (small_supabase.url, link.split("/?")[0]):
        keys = {"apikey": small_supabase.secret_key}
        rebound = httpx.get(f"{url}/rest/v1/notes", headers={**keys, "host": "evil.example"})
        assert rebound.status_code == 421
        for origin in ("http://evil.example", "null", url.replace("127.0.0.1", "evil.example")):
            crossed = httpx.get(f"{url}/rest/v1/notes", headers={**keys, "origin": origin})
            assert crossed.status_code == 403
            assert "access-control-allow-origin" not in crossed.headers
            asked = httpx.options(f"{url}/rest/v1/notes", headers={"origin": origin})
            assert asked.status_code == 403


def test_studio_needs_the_link_and_the_link_works_once(small_supabase: RunningSupabase) -> None:
    link = asyncio.run(studio_link(small_supabase.state))
    base = link.split("/?")[0]
    for path in ("/", "/rest/v1/notes", "/_system/info", "/static/x.js", "/?ticket=guessed"):
        assert httpx.get(base + path).status_code == 401, path
    assert (
        httpx.get(f"{base}/rest/v1/notes", headers={"cookie": "pythonic_studio=guessed"}).status_code == 401
    )
    entered = httpx.get(link)
    assert entered.status_code == 303
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    session = {"cookie": cookie.split(";")[0]}
    assert httpx.get(f"{base}/rest/v1/notes", headers=session).status_code == 200
    for site in ("cross-site", "same-site"):
        assert (
            httpx.get(f"{base}/rest/v1/notes", headers={**session, "sec-fetch-site": site}).status_code == 403
        )
    assert httpx.get(link).status_code == 401


def test_nothing_else_listens(small_supabase: RunningSupabase) -> None:
    gateway = int(small_supabase.url.rsplit(":", 1)[1])
    for name, pid in small_supabase.children.items():
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        ports = [c for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert ports == [], name
    own = psutil.Process(small_supabase.process.pid).net_connections("inet")
    listening = {c.laddr for c in own if c.status == psutil.CONN_LISTEN}
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert gateway in {address.port for address in listening}


def test_only_the_owner_reaches_files_and_sockets(small_supabase: RunningSupabase) -> None:
    state = small_supabase.state
    assert stat.S_IMODE((state / "keys.json").stat().st_mode) == 0o600
    for name in ("run", "logs", "lite"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o700
    cluster = next(iter((state / "postgres.place").read_text().split()))
    assert stat.S_IMODE(os.stat(cluster).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{cluster}/socket").st_mode) == 0o700
    lines = Path(f"{cluster}/data/pg_hba.conf").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert [rule.split() for rule in rules] == [["local", "all", "all", "peer", "map=owner"]]


def test_too_large_an_upload_is_refused_with_the_limit(small_supabase: RunningSupabase) -> None:
    address = httpx.URL(small_supabase.url)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
    try:
        connection.putrequest("POST", "/storage/v1/object/artifacts/x/y")
        connection.putheader("apikey", small_supabase.secret_key)
        connection.putheader("content-length", str(1025 << 20))  # enough to refuse it: nothing is sent
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413 and "1024 MiB" in json.loads(answer.read())["message"]
    finally:
        connection.close()
