"""Studio, the table editor, for the owner of this machine only.

Studio works with all rights, so it has a listener of its own on loopback, opened on demand, behind a link
that works once: whoever can talk to the control socket (mode 0600) gets a ticket, the ticket is exchanged
for an HttpOnly cookie, and every request must carry that cookie, the right Host and no foreign Origin.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from embedded_supabase.gateway.access import loopback_hosts
from embedded_supabase.gateway.asgi import (
    Headers,
    Receive,
    RefusedError,
    Scope,
    Send,
    header,
    lifespan,
    send_json,
)
from embedded_supabase.gateway.proxy import Proxy

TICKET_SECONDS = 600.0
SESSION_SECONDS = 12 * 3600.0
COOKIE = "pythonic_studio"
BODY_BYTES = 64 << 20
_GUARDS: Headers = [
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Tickets:
    """Tickets and sessions; only digests are kept, in memory."""

    def __init__(self) -> None:
        self._tickets: dict[str, float] = {}
        self._sessions: dict[str, float] = {}

    def mint(self) -> str:
        """A new ticket, good once and for ten minutes."""
        ticket = secrets.token_urlsafe(32)
        self._tickets[_digest(ticket)] = time.monotonic() + TICKET_SECONDS
        return ticket

    def exchange(self, ticket: str) -> str | None:
        """Turn a ticket into a session; None if it is unknown, used or too old."""
        now = time.monotonic()
        deadline = self._tickets.pop(_digest(ticket), 0.0)
        self._tickets = {key: until for key, until in self._tickets.items() if until > now}
        if deadline <= now:
            return None
        session = secrets.token_urlsafe(32)
        self._sessions[_digest(session)] = now + SESSION_SECONDS
        return session

    def valid(self, session: str) -> bool:
        """Whether a session is alive."""
        now = time.monotonic()
        self._sessions = {key: until for key, until in self._sessions.items() if until > now}
        digest = _digest(session)
        return any(hmac.compare_digest(digest, known) for known in self._sessions)


class Studio:
    """The ASGI application in front of lite's Studio socket."""

    def __init__(self, tickets: Tickets, proxy: Proxy, port: int) -> None:
        self._tickets = tickets
        self._proxy = proxy
        self._hosts = loopback_hosts(port)
        self._origins = frozenset(f"http://{host}" for host in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await lifespan(receive, send)
            return
        try:
            self._check_place(scope)
            ticket = parse_qs(scope["query_string"].decode("latin-1")).get("ticket")
            if scope["path"] == "/" and scope["method"] == "GET" and ticket:
                await self._let_in(ticket[0], send)
                return
            self._check_session(scope)
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
            await self._proxy.forward(
                scope,
                receive,
                send,
                limit=BODY_BYTES,
                extra=_GUARDS,
                wants_rewrite=lambda _path, _kind: False,
                rewrite=lambda _path, body: body,
            )
        except RefusedError as error:
            await send_json(send, error.status, error.body(), [*error.headers, *_GUARDS])

    def _check_place(self, scope: Scope) -> None:
        if (header(scope, "host") or "").lower() not in self._hosts:
            raise RefusedError(421, "wrong_host", "Studio does not answer for this host.")
        origin = header(scope, "origin")
        if origin is not None and origin.lower() not in self._origins:
            raise RefusedError(403, "wrong_origin", "Other pages may not call Studio.")
        # Ports of one host are one "site" to a browser, so SameSite alone does not keep other servers out.
        if header(scope, "sec-fetch-site") not in (None, "same-origin", "none"):
            raise RefusedError(403, "wrong_site", "Other pages may not call Studio: open the link itself.")

    async def _let_in(self, ticket: str, send: Send) -> None:
        session = self._tickets.exchange(ticket)
        if session is None:
            raise RefusedError(
                401, "used_ticket", "This link was used or is too old: run `pythonic studio` again."
            )
        cookie = f"{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={int(SESSION_SECONDS)}"
        headers = [
            (b"location", b"/"),
            (b"set-cookie", cookie.encode()),
            (b"cache-control", b"no-store"),
            *_GUARDS,
        ]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _check_session(self, scope: Scope) -> None:
        try:
            cookies = SimpleCookie(header(scope, "cookie") or "")
        except CookieError:
            cookies = SimpleCookie()
        morsel = cookies.get(COOKIE)
        if morsel is None or not self._tickets.valid(morsel.value):
            raise RefusedError(401, "no_session", "Run `pythonic studio` and open the link that it prints.")


def control_note(state: Path) -> Path:
    """The file in which a running embedded Supabase says where its control socket is."""
    return state.expanduser().absolute() / "running.json"
