"""The control socket: what other processes of the same person may ask a running embedded Supabase."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from embedded_supabase.gateway.asgi import Receive, RefusedError, Scope, Send, lifespan, send_json
from embedded_supabase.studio import control_note
from pythonic_assistant.domain.errors import StoreUnavailableError

ANSWER_SECONDS = 10.0


class Control:
    """The ASGI application on the control socket (mode 0600, so that only its owner connects)."""

    def __init__(self, studio_link: Callable[[], Awaitable[str]]) -> None:
        self._studio_link = studio_link

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            if (scope["method"], scope["path"]) == ("POST", "/studio"):
                await send_json(send, 200, {"link": await self._studio_link()})
            else:
                error = RefusedError(404, "not_found", "No such request.")
                await send_json(send, error.status, error.body())
        elif scope["type"] == "lifespan":
            await lifespan(receive, send)


async def studio_link(state: Path) -> str:
    """Ask the embedded Supabase that runs on a state folder for a link to Studio that works once.

    Raises:
        StoreUnavailableError: none runs there, or it does not answer.
    """
    advice = f"No embedded Supabase runs on {state}: start it with `make run` first."
    try:
        socket: str = json.loads(control_note(state).read_text())["control"]
    except (OSError, ValueError, KeyError) as error:
        raise StoreUnavailableError(advice) from error
    try:
        transport = httpx.AsyncHTTPTransport(uds=socket)
        async with httpx.AsyncClient(transport=transport, timeout=ANSWER_SECONDS) as client:
            answer = (await client.post("http://control/studio")).raise_for_status()
        link: str = answer.json()["link"]
    except (httpx.HTTPError, OSError) as error:
        raise StoreUnavailableError(advice) from error
    return link
