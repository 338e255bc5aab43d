"""What of a request or an answer may be passed on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import h11

from pythonic_assistant.adapters.egress.policy import Policy, Scheme, Target, split_authority
from pythonic_assistant.adapters.egress.refusal import RefusedError

Headers = list[tuple[bytes, bytes]]

# RFC 9110, 7.6.1, and what belongs to one connection in practice: never passed on, in neither direction.
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection "
    b"proxy-authentication-info te trailer transfer-encoding upgrade expect content-length host".split()
)
_METHOD: Final = re.compile(r"[A-Z]{1,20}")
_ABSOLUTE: Final = re.compile(rb"http://([^/?#]*)([/?][^#]*)?", re.IGNORECASE)


@dataclass(slots=True)
class Head:
    """A request's head, as it will be sent.

    Attributes:
        target: path and query.
        headers: without those that belong to one connection, Host and Content-Length among them.
        length: of the body as the code declared it; None for chunks.
        has_body: whether a body is announced.
    """

    method: str
    target: bytes
    headers: Headers = field(repr=False)
    length: int | None
    has_body: bool

    def value(self, name: bytes) -> str:
        """The first value of a header, or an empty text."""
        return next((v for n, v in self.headers if n.lower() == name), b"").decode("latin-1")


def absolute_target(request: h11.Request, policy: Policy) -> tuple[Target, bytes]:
    """Read the target of a request that is made to a proxy without a tunnel.

    Raises:
        RefusedError: it is not `http://host/path`, or its host is not allowed.
    """
    found = _ABSOLUTE.fullmatch(request.target)
    if found is None:
        raise RefusedError(
            "This is a proxy: ask it for http://host/path without a fragment, or for CONNECT host:443."
        )
    target = policy.target(found.group(1).decode("latin-1"), "http")
    path = found.group(2) or b"/"
    return target, path if path.startswith(b"/") else b"/" + path


def tunnelled_path(request: h11.Request) -> bytes:
    """Read the target of a request inside of a tunnel.

    Raises:
        RefusedError: it is no path.
    """
    path = request.target
    if not path.startswith(b"/") and (path, request.method) != (b"*", b"OPTIONS"):
        raise RefusedError("Inside of a tunnel a request names a path alone, such as /v1/items.")
    if b"#" in path:
        raise RefusedError("A request's path has no fragment: leave out # and what follows.")
    return path


def read_head(request: h11.Request, target: Target, path: bytes) -> Head:
    """Check a request's head, and leave out what is not passed on.

    Raises:
        RefusedError: it asks for what does not go through a proxy, or for a host other than its target's.
    """
    method = request.method.decode("ascii")
    if not _METHOD.fullmatch(method) or method in ("CONNECT", "TRACE"):
        raise RefusedError("The method is not allowed: use GET, POST and the like, in capital letters.")
    lengths = {value for name, value in request.headers if name == b"content-length"}
    chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
    if chunked and lengths:
        raise RefusedError("A body has either Content-Length or Transfer-Encoding, never both.", status=400)
    dropped = set(_HOP_BY_HOP)
    for name, value in request.headers:
        if name == b"host" and not _same_host(value, target):
            raise RefusedError(
                f"The header Host names another host than {target.host}, to which the connection was opened."
            )
        if name == b"upgrade":
            raise RefusedError("WebSockets and other upgrades do not pass the proxy: use plain requests.")
        if name == b"connection":
            dropped |= {part.strip().lower() for part in value.split(b",")}
    return Head(
        method=method,
        target=path,
        headers=[(name, value) for name, value in request.headers.raw_items() if name.lower() not in dropped],
        length=None if chunked else int(next(iter(lengths), b"0")),
        has_body=chunked or bool(lengths),
    )


def answer_headers(response: h11.Response, *, keep_length: bool) -> Headers:
    """The headers of an answer that are passed on."""
    dropped = set(_HOP_BY_HOP)
    if keep_length:
        dropped.discard(b"content-length")
    for name, value in response.headers:
        if name == b"connection":
            dropped |= {part.strip().lower() for part in value.split(b",")}
    return [(name, value) for name, value in response.headers.raw_items() if name.lower() not in dropped]


def _same_host(value: bytes, target: Target) -> bool:
    scheme: Scheme = target.scheme
    try:
        return split_authority(value.decode("latin-1"), scheme) == (target.host, target.port)
    except RefusedError:
        return False
