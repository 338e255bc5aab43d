"""The gateway: what clients know as the project's URL."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from urllib.parse import parse_qs

from embedded_supabase.gateway.access import Access, cors_headers, preflight_headers
from embedded_supabase.gateway.asgi import Receive, RefusedError, Scope, Send, header, lifespan, send_json
from embedded_supabase.gateway.proxy import Proxy, unavailable
from embedded_supabase.gateway.rewrites import needs_rewrite, rewrite
from embedded_supabase.realtime.api import post_broadcast
from embedded_supabase.realtime.frames import VERSIONS, Version
from embedded_supabase.realtime.socket import RealtimeSettings, RealtimeSocket

log = logging.getLogger(__name__)

PROXIED = ("/rest/v1", "/auth/v1", "/storage/v1")
JSON_BYTES = 16 << 20
"""Limit of a request to REST or Auth; Storage has its own."""

FORM_BYTES = 64 << 10
"""What a form may add to the file in it."""

Health = Callable[[], Mapping[str, bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The ASGI application.

    Attributes:
        access: who may come in.
        proxy: to lite's public socket.
        realtime: what sockets share.
        health: part → whether it works.
        upload_bytes: the largest request to Storage.
    """

    access: Access
    proxy: Proxy
    realtime: RealtimeSettings
    health: Health
    upload_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await self._websocket(scope, receive, send)
            case _:
                await lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin: str | None = None
        try:
            origin = self.access.check_place(scope)
            if scope["method"] == "OPTIONS" and origin is not None:
                await send(
                    {
                        "type": "http.response.start",
                        "status": 204,
                        "headers": preflight_headers(scope, origin),
                    }
                )
                await send({"type": "http.response.body", "body": b""})
                return
            await self._route(scope, receive, send, origin)
        except RefusedError as error:
            await send_json(send, error.status, error.body(), [*error.headers, *cors_headers(origin)])

    async def _route(self, scope: Scope, receive: Receive, send: Send, origin: str | None) -> None:
        path: str = scope["path"]
        if path == "/health":
            parts = self.health()
            well = all(parts.values())
            content = {
                "status": "ok" if well else "restarting",
                **{k: "up" if v else "down" for k, v in parts.items()},
            }
            await send_json(send, 200 if well else 503, content, [] if well else [(b"retry-after", b"1")])
            return
        area = next((prefix for prefix in PROXIED if path == prefix or path.startswith(f"{prefix}/")), None)
        if area is not None:
            self.access.check_key(scope)
            if area == "/rest/v1":  # Auth and Storage have answers of their own for stale sessions
                self.access.check_bearer(scope)
            self._check_health()
            await self.proxy.forward(
                scope,
                receive,
                send,
                limit=self.upload_bytes + FORM_BYTES if area == "/storage/v1" else JSON_BYTES,
                extra=cors_headers(origin),
                wants_rewrite=partial(needs_rewrite, scope["method"]),
                rewrite=rewrite,
            )
            return
        if path.startswith("/realtime/v1/api/broadcast") and scope["method"] == "POST":
            self.access.check_key(scope)
            await post_broadcast(scope, receive, self.realtime, _key(scope))
            await send_json(send, 202, b"{}", cors_headers(origin))
            return
        raise RefusedError(404, "not_found", "No such address: this is a Supabase project's URL.")

    def _check_health(self) -> None:
        for part, well in self.health().items():
            if not well:
                raise unavailable(part)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            self.access.check_place(scope)
            version = _version(scope)
            self.access.check_key(scope)
        except RefusedError as error:
            await _refuse(scope, send, error)
            return
        await send({"type": "websocket.accept"})
        await RealtimeSocket(self.realtime, version=version, key=_key(scope)).run(receive, send)


def _key(scope: Scope) -> str:
    given = header(scope, "apikey")
    if given is not None:
        return given
    return parse_qs(scope["query_string"].decode("latin-1"))["apikey"][0]


def _version(scope: Scope) -> Version:
    if scope["path"].rstrip("/") != "/realtime/v1/websocket":
        raise RefusedError(404, "not_found", "WebSockets are served at /realtime/v1/websocket.")
    asked = parse_qs(scope["query_string"].decode("latin-1")).get("vsn", ["1.0.0"])[0]
    if asked not in VERSIONS:
        raise RefusedError(400, "bad_version", f"Protocol version {asked} is not served; use 1.0.0 or 2.0.0.")
    return asked


async def _refuse(scope: Scope, send: Send, error: RefusedError) -> None:
    extensions = cast(dict[str, Any], scope.get("extensions") or {})
    if "websocket.http.response" not in extensions:
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"application/json"), *error.headers]
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": error.body()})
