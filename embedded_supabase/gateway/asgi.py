"""The little of ASGI that the gateway needs: types, headers, JSON answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class RefusedError(Exception):
    """A request that is not let through.

    Attributes:
        status: the HTTP status.
        code: a word for programmes.
        headers: to send along.
    """

    def __init__(self, status: int, code: str, message: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers]

    def body(self) -> bytes:
        """The JSON that is sent: the shape that the official clients make an error of."""
        return json.dumps({"code": self.code, "message": str(self), "error": str(self)}).encode()


def header(scope: Scope, name: str) -> str | None:
    """The first header of that name, or None.

    Args:
        scope: of the request.
        name: in lower case.
    """
    wanted = name.encode()
    for key, value in scope["headers"]:
        if key == wanted:
            return value.decode("latin-1")
    return None


async def send_json(
    send: Send, status: int, content: Mapping[str, Any] | bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer a request with JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    kind = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *headers]})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read a whole request body.

    Raises:
        RefusedError: it is larger than `limit` bytes, or the client went away.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "client_gone", "The client closed the connection.")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise RefusedError(413, "too_large", f"The request is larger than {limit} bytes.")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start and stop messages; the supervisor does the work elsewhere."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
