"""Requests that are allowed: they arrive as they were meant, stream both ways, and are told of once."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import urllib.request
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import requests

from pythonic_assistant.adapters.egress.means import DEFAULT_LIMITS
from tests.egress.conftest import API, OTHER, PLAIN, Proxy, World


def with_requests(proxy: Proxy, method: str, url: str, **arguments: object) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(
            method,
            url,
            proxies={"http": proxy.url, "https": proxy.url},
            verify=str(proxy.cafile),
            timeout=20,
            **arguments,  # type: ignore[arg-type]
        )


async def test_requests_gets_over_tls_and_the_request_is_told_of_once(world: World) -> None:
    proxy = await world.proxy()
    answer = await asyncio.to_thread(with_requests, proxy, "GET", f"https://{API}/items?q=1")
    assert answer.json()["target"] == "/items?q=1"
    assert world.api.heard[0]["host"] == API
    (event,) = await proxy.reported(1)
    assert (event.host, event.port, event.method, event.outcome, event.status) == (
        API,
        443,
        "GET",
        "allowed",
        200,
    )
    assert event.received_bytes == len(answer.content) and event.reason == "" and event.seconds > 0


async def test_requests_posts_json_over_plain_http(world: World) -> None:
    proxy = await world.proxy()
    answer = await asyncio.to_thread(with_requests, proxy, "POST", f"http://{PLAIN}/items", json={"a": 1})
    assert json.loads(answer.json()["body"]) == {"a": 1}
    (event,) = await proxy.reported(1)
    assert (event.port, event.method, event.sent_bytes) == (80, "POST", 8)


async def test_httpx_streams_an_upload_of_unknown_length(world: World) -> None:
    proxy = await world.proxy()

    async def pieces():  # type: ignore[no-untyped-def]
        for number in range(100):
            yield b"%04d" % number * 1000

    async with httpx.AsyncClient(proxy=proxy.url, verify=proxy.trust, trust_env=False) as client:
        answer = await client.put(f"https://{API}/upload", content=pieces())
    assert answer.status_code == 200
    assert len(world.api.heard[0].body) == 400_000
    assert "content-length" not in world.api.heard[0].names()


async def test_urllib_gets_over_tls(world: World) -> None:
    proxy = await world.proxy()

    def get() -> bytes:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({"https": proxy.url}),
            urllib.request.HTTPSHandler(context=proxy.trust),
        )
        with opener.open(f"https://{API}/urllib", timeout=20) as answer:
            return answer.read()

    assert json.loads(await asyncio.to_thread(get))["target"] == "/urllib"


async def test_curl_uploads_with_expect_and_git_trusts_the_same_file(world: World, tmp_path: Path) -> None:
    proxy = await world.proxy()
    big = tmp_path / "big"
    big.write_bytes(b"y" * (2 << 20))
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--proxy", proxy.url, "--cacert", str(proxy.cafile), "-H", "Expect: 100-continue"),
        *("--data-binary", f"@{big}", "-o", "/dev/null", "-w", "%{http_code}", f"https://{API}/upload"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await curl.communicate()
    assert out == b"200"
    assert len(world.api.heard[0].body) == 2 << 20
    assert "expect" not in world.api.heard[0].names()


async def test_many_requests_share_one_connection_each_way(world: World) -> None:
    proxy = await world.proxy()
    async with httpx.AsyncClient(proxy=proxy.url, verify=proxy.trust, trust_env=False) as client:
        for number in range(20):
            assert (await client.get(f"https://{API}/{number}")).json()["target"] == f"/{number}"
    assert world.api.connections == 1
    assert len(await proxy.reported(20)) == 20


async def test_a_connection_that_the_host_closed_meanwhile_is_made_again(world: World) -> None:
    proxy = await world.proxy()
    async with httpx.AsyncClient(proxy=proxy.url, verify=proxy.trust, trust_env=False) as client:
        assert (await client.get(f"https://{API}/die-later")).text == "ok"
        await asyncio.sleep(0.1)
        assert (await client.get(f"https://{API}/again")).status_code == 200
    assert world.api.connections == 2


async def test_a_post_is_never_sent_twice_when_the_host_dies(world: World) -> None:
    proxy = await world.proxy()
    async with httpx.AsyncClient(proxy=proxy.url, verify=proxy.trust, trust_env=False) as client:
        assert (await client.get(f"https://{API}/")).status_code == 200
        assert (await client.post(f"https://{API}/die", content=b"pay")).status_code == 502
    assert [heard.method for heard in world.api.heard] == ["GET", "POST"]
    assert (await proxy.reported(2))[1].outcome == "failed"


async def test_absolute_requests_to_several_hosts_on_one_connection_go_to_their_own(world: World) -> None:
    proxy = await world.proxy()
    reader, writer = await proxy.connect()
    for host, there in ((PLAIN, world.plain), (API, world.api), (PLAIN, world.plain)):
        writer.write(f"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        await reader.readexactly(length)
        assert there.heard[-1]["host"] == host
    writer.close()
    assert [event.host for event in await proxy.reported(3)] == [PLAIN, API, PLAIN]


@pytest.mark.parametrize("path", ["/chunked", "/close"])
async def test_answers_without_a_length_arrive_whole(world: World, path: str) -> None:
    proxy = await world.proxy()
    answer = await asyncio.to_thread(with_requests, proxy, "GET", f"https://{API}{path}")
    assert answer.text.endswith("piece 49\n" if path == "/chunked" else "until the end")


async def test_http_1_0_gets_a_body_that_ends_with_the_connection(world: World) -> None:
    proxy = await world.proxy()
    answer = await proxy.raw(f"GET http://{PLAIN}/chunked HTTP/1.0\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body.endswith(b"piece 49\n") and body.startswith(b"piece 0\n")


async def test_head_and_204_have_no_body_and_leave_the_connection_usable(world: World) -> None:
    proxy = await world.proxy()

    def ask() -> list[tuple[int, bytes]]:
        client = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=proxy.trust, timeout=20)
        client.set_tunnel(API, 443)
        found = []
        for method, path in (("HEAD", "/bytes?n=5000"), ("GET", "/empty"), ("GET", "/bytes?n=3")):
            client.request(method, path)
            answer = client.getresponse()
            found.append((answer.status, answer.read()))
        client.close()
        return found

    assert await asyncio.to_thread(ask) == [(200, b""), (204, b""), (200, b"xxx")]


async def test_a_large_answer_streams_in_bounded_memory(world: World) -> None:
    proxy = await world.proxy()
    size = 48 << 20
    async with (
        httpx.AsyncClient(proxy=proxy.url, verify=proxy.trust, trust_env=False) as client,
        client.stream("GET", f"https://{API}/bytes?n={size}") as answer,
    ):
        assert answer.headers["content-length"] == str(size)
        got = 0
        async for piece in answer.aiter_raw():
            got += len(piece)
    assert got == size
    assert (await proxy.reported(1))[0].received_bytes == size


async def test_an_answer_beyond_the_cap_is_refused_at_once_or_cut(world: World) -> None:
    proxy = await world.proxy(limits=replace(DEFAULT_LIMITS, answer_bytes=300))
    assert b" 502 " in (await proxy.ask("/bytes?n=301")).partition(b"\r\n")[0]
    cut = await proxy.ask("/chunked")
    assert not cut.endswith(b"0\r\n\r\n") and len(cut) < 1000
    events = await proxy.reported(2)
    assert [event.outcome for event in events] == ["failed", "failed"]
    assert "larger than 300 bytes" in events[1].reason


async def test_redirects_are_passed_on_and_the_next_request_is_judged_by_itself(world: World) -> None:
    proxy = await world.proxy(hosts=[API])
    with pytest.raises(
        requests.exceptions.ProxyError, match=r"not allowed: this task may reach api\.example\.org only"
    ):
        await asyncio.to_thread(with_requests, proxy, "GET", f"https://{API}/redirect?to=https://{OTHER}/x")
    assert [event.outcome for event in await proxy.reported(2)] == ["allowed", "refused"]
    assert world.other.connections == 0


async def test_headers_of_one_connection_are_not_passed_on(world: World) -> None:
    proxy = await world.proxy()
    await proxy.ask(
        "/", "Proxy-Authorization: Basic eDp5", "Proxy-Connection: keep-alive", "TE: trailers", "X-Kept: yes",
        "X-Named: no", "Connection: X-Named", "Keep-Alive: timeout=5",
    )  # fmt: skip
    assert world.api.heard[0].names() == {"host", "x-kept"}


async def test_a_host_that_does_not_speak_for_its_name_gets_nothing(world: World) -> None:
    wrong = "wrong.example.org"
    route = replace(world.routes[0], host=wrong)
    proxy = await world.proxy(hosts=[wrong], routes=[route])
    answer = await proxy.ask("/", host=wrong)
    assert b" 502 " in answer and b"certificate of wrong.example.org is not valid" in answer
    assert world.api.heard == []


async def test_a_host_that_nobody_serves_is_told(world: World) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        route = replace(world.routes[0], port=unused.getsockname()[1])
        proxy = await world.proxy(routes=[route])
        answer = await proxy.ask("/")
    assert b"cannot be reached" in answer
    assert (await proxy.reported(1))[0].outcome == "failed"


@pytest.mark.parametrize("path", ["/die", "/die-in-the-middle", "/nonsense", "/switch"])
async def test_a_host_that_dies_or_talks_nonsense_is_a_failed_request(world: World, path: str) -> None:
    proxy = await world.proxy()
    answer = await proxy.ask(path)
    (event,) = await proxy.reported(1)
    assert event.outcome == "failed" and event.reason
    if path != "/die-in-the-middle":
        assert b" 502 " in answer.partition(b"\r\n")[0]
    else:  # the head was on its way already: the code sees that the end is missing
        assert answer.endswith(b"only this")
    assert (await proxy.ask("/")).startswith(b"HTTP/1.1 200")


async def test_a_host_that_dies_while_it_is_being_sent_to_is_told(world: World) -> None:
    proxy = await world.proxy()
    answer = await proxy.ask("/die-while-reading", method="POST", body=b"z" * (4 << 20))
    assert b" 502 " in answer.partition(b"\r\n")[0]


async def test_an_answer_that_comes_before_the_body_was_read_arrives(world: World) -> None:
    proxy = await world.proxy()
    answer = await proxy.ask("/early", method="POST", body=b"z" * (1 << 20))
    assert answer.startswith(b"HTTP/1.1 413") and answer.endswith(b"big")


async def test_a_silent_host_is_given_up(world: World) -> None:
    proxy = await world.proxy(limits=replace(DEFAULT_LIMITS, idle_seconds=0.3))
    assert b" 504 " in (await proxy.ask("/silent")).partition(b"\r\n")[0]
    async with asyncio.timeout(5):
        while world.api.open:
            await asyncio.sleep(0.01)


async def test_code_that_goes_away_in_the_middle_frees_the_connection_to_the_host(world: World) -> None:
    proxy = await world.proxy()
    reader, writer = await proxy.connect()
    writer.write(f"GET http://{PLAIN}/bytes?n={64 << 20} HTTP/1.1\r\nHost: {PLAIN}\r\n\r\n".encode())
    await reader.readexactly(100_000)
    writer.transport.abort()
    (event,) = await proxy.reported(1)
    assert event.outcome == "failed" and event.received_bytes < 64 << 20
    async with asyncio.timeout(5):
        while world.plain.open:
            await asyncio.sleep(0.01)


async def test_code_that_stops_in_the_middle_of_its_body_sends_nothing_more(world: World) -> None:
    proxy = await world.proxy()
    _, writer = await proxy.connect()
    writer.write(
        f"POST http://{PLAIN}/x HTTP/1.1\r\nHost: {PLAIN}\r\nContent-Length: 100\r\n\r\nabc".encode()
    )
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.transport.abort()
    (event,) = await proxy.reported(1)
    assert event.outcome == "failed"


async def test_storms_of_connections_are_answered_in_turn(world: World) -> None:
    proxy = await world.proxy(limits=replace(DEFAULT_LIMITS, connections=8))
    answers = await asyncio.gather(
        *(
            proxy.raw(
                f"GET http://{PLAIN}/{n} HTTP/1.1\r\nHost: {PLAIN}\r\nConnection: close\r\n\r\n".encode()
            )
            for n in range(120)
        )
    )
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert len(await proxy.reported(120)) == 120


async def test_slow_heads_are_cut_off_and_others_get_their_turn(world: World) -> None:
    proxy = await world.proxy(limits=replace(DEFAULT_LIMITS, connections=4, head_seconds=0.5))
    slow = [await proxy.connect() for _ in range(4)]
    for _, writer in slow:
        writer.write(b"GET http://" + PLAIN.encode())
    began = asyncio.get_running_loop().time()
    answer = await proxy.raw(
        f"GET http://{PLAIN}/ HTTP/1.1\r\nHost: {PLAIN}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert asyncio.get_running_loop().time() - began < 10
    for reader, writer in slow:
        assert await reader.read() == b""
        writer.close()


async def test_after_many_reports_only_the_number_is_told(world: World) -> None:
    proxy = await world.proxy(limits=replace(DEFAULT_LIMITS, reports=3))
    for number in range(5):
        await proxy.raw(
            f"GET http://{PLAIN}/{number} HTTP/1.1\r\nHost: {PLAIN}\r\nConnection: close\r\n\r\n".encode()
        )
    await proxy.raw(b"GET http://evil.example.com/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n")
    await world.stack.aclose()
    *_, sent, refused = await proxy.reported(5)
    # Told apart: the database takes what was refused for what had no effect.
    assert (sent.outcome, sent.method) == ("allowed", "(any)")
    assert sent.reason == "2 more requests, not listed one by one."
    assert refused.outcome == "refused"
    assert refused.reason == "1 more requests, not listed one by one."
