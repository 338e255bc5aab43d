"""Hands requests to a server on a Unix socket and streams its answers back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType

import httpx

from embedded_supabase.gateway.asgi import Headers, Message, Receive, RefusedError, Scope, Send, header
from embedded_supabase.gateway.multipart import boundary_of, file_of

# RFC 9110, section 7.6.1: meant for one connection, not for the next.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade "
    b"expect".split()
)
_OURS = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-upload-bytes",
    )
)
UPLOAD_BYTES = b"x-upload-bytes"
"""Tells lite the size of a file that is taken out of a form and sent as a stream."""

ANSWER_SECONDS = 70.0
"""For the first byte of an answer; PostgreSQL ends a statement of lite's after 60 s."""

SUSPECT_SECONDS = 5.0
"""Without a first byte after which the server may be stuck; most answers take milliseconds."""

Rewriter = Callable[[str, bytes], bytes]


def unavailable(what: str) -> RefusedError:
    """503: something behind the gateway is being restarted."""
    return RefusedError(
        503, "restarting", f"{what} is restarting: try again in a second.", [("Retry-After", "1")]
    )


class Proxy:
    """A pool of connections to one server on a Unix socket."""

    def __init__(
        self,
        socket: Path,
        *,
        name: str,
        connections: int = 64,
        on_suspicion: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the pool.

        Args:
            socket: where the server listens.
            name: of the server, for messages.
            connections: how many at most.
            on_suspicion: called for each request that has waited `SUSPECT_SECONDS` for its answer.
        """
        self._name = name
        self._on_suspicion = on_suspicion
        self._client = httpx.AsyncHTTPTransport(
            uds=str(socket),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    async def __aenter__(self) -> Proxy:
        """Open the pool."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._client.__aexit__(kind, error, trace)

    async def forward(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        limit: int,
        extra: Headers,
        wants_rewrite: Callable[[str, str], bool],
        rewrite: Rewriter,
    ) -> None:
        """Forward one request.

        Args:
            scope: of the request.
            receive: of the request.
            send: of the request.
            limit: bytes that the request's body may have.
            extra: headers to add to the answer; those of the same name in the answer are dropped.
            wants_rewrite: told path and content type, says whether `rewrite` shall see the whole body.
            rewrite: told path and body, returns the body to send.

        Raises:
            RefusedError: the body is too large, or the server does not answer.
        """
        declared = header(scope, "content-length")
        if declared is not None and (not declared.isdigit() or int(declared) > limit):
            raise too_large(limit)
        headers = [(k, v) for k, v in scope["headers"] if k not in _HOP_BY_HOP and k not in _OURS]
        boundary = boundary_of(header(scope, "content-type"))
        if boundary is None or not scope["path"].startswith("/storage/v1/object/"):
            content = await _content(receive, limit, streams=declared is not None or _chunked(scope))
        else:
            file = await file_of(_parts(await receive(), receive, limit), boundary)
            content = file.content
            headers = [(k, v) for k, v in headers if k not in (b"content-type", b"content-length")]
            headers.append((b"content-type", file.media_type))
            if declared is not None:
                headers.append((UPLOAD_BYTES, str(max(0, int(declared) - file.overhead)).encode()))
        request = httpx.Request(
            scope["method"],
            "http://gateway" + _target(scope),
            headers=headers,
            content=content,
            extensions={"timeout": {"connect": 5.0, "read": ANSWER_SECONDS, "write": 60.0, "pool": 10.0}},
        )
        alarm = asyncio.get_running_loop().call_later(SUSPECT_SECONDS, self._on_suspicion)
        try:
            response = await self._client.handle_async_request(request)
        except httpx.TimeoutException as error:
            raise RefusedError(
                503,
                "no_answer",
                f"{self._name} did not answer in time: look whether it was done, and try again.",
                [("Retry-After", "1")],
            ) from error
        except (httpx.TransportError, OSError) as error:
            raise unavailable(self._name) from error
        finally:
            alarm.cancel()
        try:
            await _answer(scope, response, send, extra, wants_rewrite, rewrite)
        finally:
            await response.aclose()


def too_large(limit: int) -> RefusedError:
    """413, with the limit in words."""
    return RefusedError(
        413, "too_large", f"The request is larger than {limit >> 20} MiB, which is the limit of this server."
    )


def _target(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (raw.split(b"?", 1)[0] + (b"?" + query if query else b"")).decode("latin-1")


def _chunked(scope: Scope) -> bool:
    return header(scope, "transfer-encoding") is not None


async def _content(receive: Receive, limit: int, *, streams: bool) -> bytes | AsyncIterator[bytes] | None:
    if not streams:
        return None
    first = await receive()
    if not first.get("more_body"):
        return _measured(first, 0, limit)
    return _parts(first, receive, limit)


async def _parts(first: Message, receive: Receive, limit: int) -> AsyncIterator[bytes]:
    size = 0
    message = first
    while True:
        part = _measured(message, size, limit)
        size += len(part)
        yield part
        if not message.get("more_body"):
            return
        message = await receive()


def _measured(message: Message, size: int, limit: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise RefusedError(400, "client_gone", "The client closed the connection.")
    part: bytes = message.get("body", b"")
    if size + len(part) > limit:
        raise too_large(limit)
    return part


async def _answer(
    scope: Scope,
    response: httpx.Response,
    send: Send,
    extra: Headers,
    wants_rewrite: Callable[[str, str], bool],
    rewrite: Rewriter,
) -> None:
    replaced = {name for name, _ in extra}
    headers = [
        (name.lower(), value)
        for name, value in response.headers.raw
        if name.lower() not in _HOP_BY_HOP
        and name.lower() not in replaced
        and not name.lower().startswith(b"access-control-")  # the gateway alone decides which pages may read
    ]
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    path: str = scope["path"]
    if wants_rewrite(path, response.headers.get("content-type", "")):
        body = rewrite(path, await response.aread())
        headers = [(k, v) for k, v in headers if k not in (b"content-length", b"content-encoding")]
        headers.append((b"content-length", str(len(body)).encode()))
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers + extra}
        )
        await send({"type": "http.response.body", "body": body})
        return
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers + extra})
    async for part in stream:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
