"""Refuses requests that did not come to this page by its own name, and sets the headers that confine it.

A page of another site can send a browser's requests to 127.0.0.1, by its address or (DNS rebinding) by a name
of its own. Host and Origin tell both apart from ours.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Streamlit's own front end needs inline styles, eval (Vega) and blob workers. What matters here is that no
# picture, frame or request leaves for another host, whatever an answer's text contains.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def loopback_hosts(port: int) -> frozenset[str]:
    """The names by which a page on loopback is called."""
    return frozenset({f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"})


class Guard:
    """ASGI middleware over everything that the page serves."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._admits(scope, headers):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 4403, "reason": "wrong host or origin"})
            else:
                refusal = PlainTextResponse(
                    "This page answers only to its own address; open it by the address that was printed.\n",
                    status_code=403,
                )
                await refusal(scope, receive, send)
            return

        async def send_confined(message: Message) -> None:
            if message["type"] == "http.response.start":
                confine(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, send_confined)

    def _admits(self, scope: Scope, headers: Headers) -> bool:
        if headers.get("host", "").lower() not in self._hosts:
            return False
        origin = headers.get("origin")
        if scope["type"] == "websocket":
            return origin is not None and self._own(origin)
        return scope["method"] in _SAFE_METHODS or (origin is not None and self._own(origin))

    def _own(self, origin: str) -> bool:
        scheme, _, host = origin.lower().partition("://")
        return scheme in ("http", "https") and host in self._hosts


def confine(headers: MutableHeaders) -> None:
    """Set the headers that every response has."""
    headers.setdefault("content-security-policy", CONTENT_SECURITY_POLICY)
    headers.setdefault("x-content-type-options", "nosniff")
    headers.setdefault("x-frame-options", "DENY")
    headers.setdefault("referrer-policy", "same-origin")
