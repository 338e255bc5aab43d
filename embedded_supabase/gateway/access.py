"""Who may talk to the gateway: the right Host, an allowed Origin, a known key."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs

from embedded_supabase.gateway.asgi import Headers, RefusedError, Scope, header
from embedded_supabase.keys import Keys

KeyKind = Literal["publishable", "secret"]

# Requests that hosted Supabase answers without a key, because the address itself carries the proof (a
# signed URL, a link from an e-mail) or because what it names is public.
_KEYLESS = (
    ("GET HEAD", re.compile(r"/storage/v1/(object|render/image)/(public|sign)/.+")),
    ("PUT", re.compile(r"/storage/v1/object/upload/sign/.+")),
    ("GET", re.compile(r"/auth/v1/(verify|authorize|callback|\.well-known/jwks\.json)")),
)
_ALLOWED_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rules of one listener.

    Attributes:
        hosts: values of the Host header that are ours; any other one is an attempt at DNS rebinding.
        origins: pages that may call from a browser.
        keys: the project's.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    keys: Keys

    def check_place(self, scope: Scope) -> str | None:
        """Check Host and Origin; return the Origin if there is one.

        Raises:
            RefusedError: 421 for a foreign Host, 403 for a foreign Origin, 400 for a path with dots.
        """
        raw = scope.get("raw_path") or b""
        if b"\\" in raw or not {".", ".."}.isdisjoint(scope["path"].split("/")):
            # Servers behind us resolve such paths, so that what was checked is not what is served.
            raise RefusedError(400, "bad_path", "The path must not hold `.` or `..` or a backslash.")
        host = (header(scope, "host") or "").lower()
        if host not in self.hosts:
            raise RefusedError(421, "wrong_host", f"This server does not answer for the host {host!r}.")
        origin = header(scope, "origin")
        if origin is not None and origin.lower() not in self.origins:
            raise RefusedError(403, "wrong_origin", f"Pages of {origin!r} may not call this server.")
        return origin

    def check_key(self, scope: Scope) -> KeyKind | None:
        """Tell which key the request carries; None for what needs no key.

        Raises:
            RefusedError: 401, no key or an unknown one.
        """
        given = header(scope, "apikey")
        if given is None:
            given = next(iter(parse_qs(scope["query_string"].decode("latin-1")).get("apikey", [])), None)
        if given is None:
            path, method = scope["path"], scope.get("method", "GET")
            if any(method in methods.split() and rule.fullmatch(path) for methods, rule in _KEYLESS):
                return None
            raise RefusedError(401, "no_api_key", "No API key found in request: send the header `apikey`.")
        return self.kind_of(given)

    def check_bearer(self, scope: Scope) -> None:
        """Refuse what cannot be a token; lite verifies the rest, but takes this for no token at all.

        Raises:
            RefusedError: 401, the Authorization header holds neither a key nor three parts of a token.
        """
        scheme, _, given = (header(scope, "authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or given.startswith("sb_"):
            return
        parts = given.strip().split(".")
        if len(parts) != 3 or not all(parts):
            raise RefusedError(401, "PGRST301", "The token in the header Authorization is not a JWT.")

    def kind_of(self, key: str) -> KeyKind:
        """Tell which key this is, in constant time.

        Raises:
            RefusedError: 401, it is unknown.
        """
        raw = key.encode()
        secret = hmac.compare_digest(raw, self.keys.secret_key.encode())
        publishable = hmac.compare_digest(raw, self.keys.publishable_key.encode())
        if not (secret or publishable):
            raise RefusedError(401, "unknown_api_key", "Invalid API key.")
        return "secret" if secret else "publishable"


def loopback_hosts(port: int) -> frozenset[str]:
    """How a client on this machine may call a listener on 127.0.0.1."""
    return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))


def cors_headers(origin: str | None) -> Headers:
    """What tells a browser that the page of `origin` may read the answer."""
    if origin is None:
        return []
    return [(b"access-control-allow-origin", origin.encode()), (b"vary", b"Origin")]


def preflight_headers(scope: Scope, origin: str) -> Headers:
    """The answer to a browser's question before a request that is not simple."""
    wanted = header(scope, "access-control-request-headers") or ""
    return [
        *cors_headers(origin),
        (b"access-control-allow-methods", _ALLOWED_METHODS),
        (b"access-control-allow-headers", wanted.encode("latin-1")),
        (b"access-control-max-age", b"600"),
    ]
