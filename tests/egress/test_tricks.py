"""Ways around the list of hosts, each refused with a sentence and told of, with nothing reaching any host."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pythonic_assistant.adapters.egress.means import DEFAULT_LIMITS
from pythonic_assistant.adapters.egress.policy import Route
from tests.egress.conftest import API, OTHER, PLAIN, World

HIDDEN = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[fe80::1%25eth0]",
    "::1",
    "localhost",
    "api.example.org@127.0.0.1",
    "user:pw@api.example.org",
    "api.example.org%00.evil.example.com",
    "api.example.org%2eevil.example.com",
    "xapi.example.org",
    "api.example.org.evil.example.com",
    "api.example.org..",
    "evil.example.com",
    "api.example.org\\evil.example.com",
    "api.example.org,evil.example.com",
    "169.254.169.254",
    "metadata.google.internal",
    "аpi.example.org",  # a Cyrillic letter
    "",
    ":",
    "-",
    "a" * 300 + ".example.org",
]


def refused(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    return (
        b" 403 " in head.partition(b"\r\n")[0] and b"x-pythonic-refused: 1" in head.lower() and len(body) > 20
    )


@pytest.mark.parametrize("host", HIDDEN)
async def test_no_spelling_of_another_host_is_let_through(world: World, host: str) -> None:
    proxy = await world.proxy(hosts=[API, PLAIN])
    name = host.encode()
    connect = await proxy.raw(b"CONNECT %s:443 HTTP/1.1\r\nHost: %s\r\n\r\n" % (name, API.encode()))
    absolute = await proxy.raw(b"GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n" % (name, PLAIN.encode()))
    for answer in (connect, absolute):
        # What is no letter of HTTP is refused by the reader already.
        assert refused(answer) or answer.startswith(b"HTTP/1.1 400"), answer
    for event in await proxy.reported(2):
        assert event.outcome == "refused" and event.reason and len(event.host) <= 253
    assert not world.api.heard and not world.plain.heard and not world.other.heard


@pytest.mark.parametrize("spelling", ["API.Example.ORG", "api.example.org."])
async def test_capitals_and_the_final_dot_mean_the_same_host(world: World, spelling: str) -> None:
    proxy = await world.proxy(hosts=[API])
    answer = await proxy.raw(
        f"GET http://{spelling}/ HTTP/1.1\r\nHost: {spelling}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert world.api.heard[0]["host"] == API
    assert (await proxy.reported(1))[0].host == API


@pytest.mark.parametrize("port", [22, 25, 80, 444, 8443, 65536, 0, 99999])
async def test_connect_reaches_no_port_but_443(world: World, port: int) -> None:
    proxy = await world.proxy(hosts=[API], routes=[])
    assert refused(await proxy.raw(f"CONNECT {API}:{port} HTTP/1.1\r\nHost: {API}:{port}\r\n\r\n".encode()))
    assert "only" in (await proxy.reported(1))[0].reason


@pytest.mark.parametrize("port", [22, 443, 8080])
async def test_plain_http_reaches_no_port_but_80(world: World, port: int) -> None:
    proxy = await world.proxy(hosts=[PLAIN], routes=[])
    assert refused(
        await proxy.raw(f"GET http://{PLAIN}:{port}/ HTTP/1.1\r\nHost: {PLAIN}:{port}\r\n\r\n".encode())
    )


@pytest.mark.parametrize("inner", [OTHER, "evil.example.com", f"{API}:80", f"{API}@{OTHER}", "", "127.0.0.1"])
async def test_a_tunnel_carries_requests_for_its_own_host_only(world: World, inner: str) -> None:
    proxy = await world.proxy()
    answer = await proxy.raw(f"GET / HTTP/1.1\r\nHost: {inner}\r\n\r\n".encode(), tunnel=API)
    assert refused(answer)
    (event,) = await proxy.reported(1)
    assert (event.host, event.method, event.outcome) == (API, "GET", "refused")
    assert not world.api.heard and not world.other.heard


async def test_a_plain_request_whose_host_header_differs_is_refused(world: World) -> None:
    proxy = await world.proxy()
    assert refused(await proxy.raw(f"GET http://{PLAIN}/ HTTP/1.1\r\nHost: {API}\r\n\r\n".encode()))
    assert not world.plain.heard


async def test_a_server_name_other_than_the_tunnels_host_is_refused_and_told(world: World) -> None:
    proxy = await world.proxy()
    answer = await proxy.raw(f"GET / HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(), tunnel=API, sni=OTHER)
    assert refused(answer) and b"TLS server name" in answer
    assert (await proxy.reported(1))[0].outcome == "refused"
    assert world.api.connections == world.other.connections == 0


@pytest.mark.parametrize(
    "request_line",
    [
        f"GET http://{OTHER}/ HTTP/1.1",
        f"GET https://{API}/ HTTP/1.1",
        f"CONNECT {OTHER}:443 HTTP/1.1",
        "GET * HTTP/1.1",
        "GET api HTTP/1.1",
        "GET /x#y HTTP/1.1",
        "TRACE / HTTP/1.1",
        "get / HTTP/1.1",
        "G'T / HTTP/1.1",
    ],
)
async def test_inside_a_tunnel_only_plain_paths_and_usual_methods_pass(
    world: World, request_line: str
) -> None:
    proxy = await world.proxy()
    assert refused(await proxy.raw(f"{request_line}\r\nHost: {API}\r\n\r\n".encode(), tunnel=API))
    assert (await proxy.reported(1))[0].outcome == "refused"
    assert not world.api.heard and not world.other.heard


@pytest.mark.parametrize(
    "target", ["/only-a-path", f"https://{API}/", "ftp://plain.example.org/", f"http://{PLAIN}/a#b", "*"]
)
async def test_outside_a_tunnel_only_http_addresses_pass(world: World, target: str) -> None:
    proxy = await world.proxy()
    assert refused(await proxy.raw(f"GET {target} HTTP/1.1\r\nHost: {PLAIN}\r\n\r\n".encode()))
    assert not world.plain.heard and not world.api.heard


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Host: other.example.net",
        "X-A: b\r\n\x00c: d",
        "X-A: b\rX-B: c",
        "X-A\r\n: b",
    ],
)
async def test_requests_of_two_meanings_are_refused_and_nothing_is_smuggled(
    world: World, headers: str
) -> None:
    proxy = await world.proxy()
    smuggled = f"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {PLAIN}\r\n\r\n"
    answer = await proxy.raw(
        f"POST http://{PLAIN}/ HTTP/1.1\r\nHost: {PLAIN}\r\n{headers}\r\n\r\n{smuggled}".encode()
    )
    assert answer.split(b" ")[1] in (b"400", b"403", b"501"), answer
    assert answer.count(b"Connection: close\r\n") == 1
    assert not world.plain.heard
    assert (await proxy.reported(1))[0].outcome == "refused"


async def test_websockets_are_refused_with_a_sentence(world: World) -> None:
    proxy = await world.proxy()
    answer = await proxy.ask("/socket", "Upgrade: websocket")
    assert refused(answer) and b"WebSockets" in answer
    assert not world.api.heard


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x05\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 50 + b"hello\r\n\r\n",
        b"GET http://plain.example.org/ HTTP/1.1\r\nHost: plain.example.org\r\n" + b"X: y\r\n" * 20_000,
        b"A" * 200_000,
    ],
)
async def test_what_is_no_http_is_refused_and_the_next_connection_works(world: World, noise: bytes) -> None:
    proxy = await world.proxy(limits=replace(DEFAULT_LIMITS, head_seconds=0.5))
    answer = await proxy.raw(noise)
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"403", b"431")
    assert (await proxy.ask("/")).startswith(b"HTTP/1.1 200")


async def test_noise_in_place_of_tls_ends_the_tunnel_and_is_told(world: World) -> None:
    proxy = await world.proxy()
    reader, writer = await proxy.connect()
    writer.write(f"CONNECT {API}:443 HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    await reader.read()
    writer.close()
    (event,) = await proxy.reported(1)
    assert (event.method, event.outcome) == ("CONNECT", "failed") and "TLS" in event.reason


async def test_a_refusal_names_what_is_allowed_in_the_line_that_clients_show(world: World) -> None:
    proxy = await world.proxy(hosts=[API])
    answer = await proxy.raw(b"CONNECT evil.example.com:443 HTTP/1.1\r\nHost: evil.example.com\r\n\r\n")
    assert answer.partition(b"\r\n")[0] == (
        b"HTTP/1.1 403 The host evil.example.com is not allowed: this task may reach api.example.org only."
    )


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["192.168.1.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["0.0.0.0"],
        ["224.0.0.1"],
        ["255.255.255.255"],
        ["168.63.129.16"],
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["::7f00:1"],
        ["64:ff9b::a00:1"],
        ["64:ff9b:1::a00:1"],
        ["2002:a00:1::1"],
        ["2001:0:a00:1::1"],
        ["fe80::1%lo"],
        ["fd00::1"],
        ["93.184.215.14", "127.0.0.1"],
    ],
)
async def test_a_name_that_leads_inward_is_refused_whatever_else_it_leads_to(
    world: World, addresses: list[str]
) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    proxy = await world.proxy(hosts=[API], routes=[], resolve=resolve)
    answer = await proxy.ask("/")
    assert refused(answer) and b"not public" in answer
    assert (await proxy.reported(1))[0].outcome == "refused"


async def test_a_name_is_resolved_once_and_the_checked_address_is_dialled(world: World) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]  # where nobody serves

    # The operator lets it be private, so that the test stays on this machine.
    port = world.plain.port
    proxy = await world.proxy(hosts=[PLAIN], routes=[Route(host=PLAIN, port=port)], resolve=resolve)
    answer = await proxy.raw(
        f"GET http://{PLAIN}:{port}/ HTTP/1.1\r\nHost: {PLAIN}:{port}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert asked == [PLAIN]


async def test_a_name_that_does_not_exist_is_told(world: World) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    proxy = await world.proxy(hosts=[API], routes=[], resolve=resolve)
    assert b"cannot be resolved" in await proxy.ask("/")
    assert (await proxy.reported(1))[0].outcome == "failed"


async def test_no_event_holds_path_query_header_or_body(world: World) -> None:
    proxy = await world.proxy()
    mark = "canary-7"
    await proxy.ask(f"/{mark}?{mark}", f"X-A: {mark}", body=mark.encode(), method="POST")
    await proxy.ask(f"/{mark}#{mark}", f"X-A: {mark}")
    await proxy.raw(f"GET /{mark} HTTP/1.1\r\nHost: {mark}\r\n\r\n".encode())
    await proxy.raw(f"{mark} http://{PLAIN}/{mark} HTTP/1.1\r\nHost: {PLAIN}\r\n\r\n".encode())
    for event in (await proxy.reported(4))[:3]:
        assert mark not in repr(event)


async def test_two_proxies_do_not_share_what_they_allow(world: World) -> None:
    first, second = await world.proxy(hosts=[API]), await world.proxy(hosts=[OTHER])
    assert (await first.ask("/", host=API)).startswith(b"HTTP/1.1 200")
    assert refused(await second.ask("/", host=API))
    assert refused(await first.ask("/", host=OTHER))
    assert first.egress.certificate != second.egress.certificate


async def test_ending_the_service_closes_open_tunnels_and_tells_of_their_requests(world: World) -> None:
    proxy = await world.proxy()
    asking = asyncio.create_task(proxy.ask("/silent"))
    while not world.api.heard:
        await asyncio.sleep(0.01)
    await world.stack.aclose()
    assert b"200" not in await asking
    (event,) = await proxy.reported(1)
    assert (event.outcome, event.reason) == ("failed", "The code closed the connection: the session ended.")
