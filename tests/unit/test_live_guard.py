"""Who is let in: only requests that name this page as their host, and as their origin where one is needed."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Scope

from live.guard import Guard, loopback_hosts


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


APP = Starlette(
    routes=[Route("/", hello, methods=["GET", "POST"])],
    middleware=[Middleware(Guard, hosts=loopback_hosts(8501))],
)


async def ask(method: str, host: str, origin: str | None) -> httpx.Response:
    headers = {"host": host} | ({"origin": origin} if origin else {})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://x") as client:
        return await client.request(method, "/", headers=headers)


@pytest.mark.parametrize(
    ("method", "host", "origin", "status"),
    [
        ("GET", "127.0.0.1:8501", None, 200),
        ("GET", "LOCALHOST:8501", None, 200),
        ("GET", "evil.example:8501", None, 403),
        ("GET", "127.0.0.1:8502", None, 403),
        ("GET", "127.0.0.1.evil.example:8501", None, 403),
        ("POST", "127.0.0.1:8501", "http://127.0.0.1:8501", 200),
        ("POST", "127.0.0.1:8501", None, 403),
        ("POST", "127.0.0.1:8501", "null", 403),
        ("POST", "127.0.0.1:8501", "http://evil.example", 403),
        ("POST", "127.0.0.1:8501", "http://127.0.0.1:8502", 403),
    ],
)
async def test_requests(method: str, host: str, origin: str | None, status: int) -> None:
    answer = await ask(method, host, origin)
    assert answer.status_code == status
    if status == 200:
        assert "img-src 'self' data: blob:;" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("origin", [None, "http://evil.example", "http://localhost:9999"])
async def test_a_socket_of_another_page_is_closed_before_it_opens(origin: str | None) -> None:
    headers = [(b"host", b"localhost:8501")] + ([(b"origin", origin.encode())] if origin else [])
    scope: Scope = {"type": "websocket", "path": "/pa/live", "headers": headers}
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: object, _send: object) -> None:
        raise AssertionError("let in")

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await Guard(app, loopback_hosts(8501))(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
