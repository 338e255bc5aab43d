"""The page's own routes below `/pa`: the session's cookie, the live socket, artifacts."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from live.feed import Change
from live.person import Person
from live.runtime import PageRuntime, runtime
from live.sessions import ABSOLUTE_SECONDS, Session, SessionEndedError
from live.wording import problem
from pythonic_assistant.domain.errors import AssistantError, InvalidInputError

# Close codes of our socket: the page reloads on the first, waits and connects again on any other.
SIGNED_OUT = 4401
FEED_ENDED = 4500
_ALIVE_SECONDS = 25.0
_MOST_SOCKETS = 50
_MOST_BODY = 2048
# Formats that a browser shows as a picture and that run nothing inside <img>.
SHOWN_AS_PICTURE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"})


def page_routes() -> Sequence[BaseRoute]:
    """The routes, for `st.App`."""
    return (
        Route("/pa/claim", claim, methods=["POST"]),
        Route("/pa/leave", leave, methods=["POST"]),
        Route("/pa/artifact/{artifact_id:int}", artifact, methods=["GET"]),
        WebSocketRoute("/pa/live", live),
    )


async def claim(request: Request) -> Response:
    """Change a one-time ticket, made by a successful sign-in, for the session's cookie."""
    page = runtime()
    cookie = page.book.claim(await _ticket(request))
    if cookie is None:
        return JSONResponse({"error": "This sign-in is too old: sign in again."}, status_code=403)
    response = JSONResponse({"ok": True})
    response.set_cookie(
        page.cookie,
        cookie,
        max_age=int(ABSOLUTE_SECONDS),
        path="/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


async def leave(request: Request) -> Response:
    """Sign out: end the session here and at Supabase, and drop the cookie."""
    page = runtime()
    session = page.book.find(request.cookies.get(page.cookie))
    if session is not None:
        await page.book.close(session)
    response = JSONResponse({"ok": True})
    response.delete_cookie(page.cookie, path="/", httponly=True, samesite="lax")
    return response


async def artifact(request: Request) -> Response:
    """The content of one of the person's artifacts, always as a download and never as a document of ours."""
    page = runtime()
    session = page.book.find(request.cookies.get(page.cookie))
    if session is None:
        return PlainTextResponse("Sign in first.\n", status_code=401)
    try:
        person = await page.hub.person(session)
        row = await person.desk.artifact(int(request.path_params["artifact_id"]))
        if row is None:
            return PlainTextResponse("There is no such file of yours.\n", status_code=404)
        etag = f'"{row.sha256}"'
        headers = {
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file_name(row.name))}",
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            "cache-control": "private, no-cache",
            "etag": etag,
        }
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        content = await person.desk.download(row.storage_path)
    except SessionEndedError:
        return PlainTextResponse("Sign in first.\n", status_code=401)
    except InvalidInputError as error:
        return PlainTextResponse(f"{error}\n", status_code=404)
    except AssistantError as error:
        return PlainTextResponse(f"{problem(error)}\n", status_code=503)
    media_type = row.media_type if row.media_type in SHOWN_AS_PICTURE else "application/octet-stream"
    return Response(content, headers=headers, media_type=media_type)


async def live(socket: WebSocket) -> None:
    """Tell a page which channels have changed. Nothing but numbers and state sentences goes out."""
    page = runtime()
    session = page.book.find(socket.cookies.get(page.cookie))
    await socket.accept()
    if session is None:
        await socket.close(SIGNED_OUT)
        return
    person = await page.hub.person(session)
    if person.sockets >= _MOST_SOCKETS:
        await socket.close(4429, "too many open pages")
        return
    person.sockets += 1
    try:
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send(socket, page, session, person))
            await _until_gone(socket)
            sender.cancel()
    finally:
        person.sockets -= 1


async def _until_gone(socket: WebSocket) -> None:
    """Wait for the browser to leave; it has nothing to say."""
    try:
        while True:
            await socket.receive_text()
    except (WebSocketDisconnect, RuntimeError, KeyError):
        return


async def _send(socket: WebSocket, page: PageRuntime, session: Session, person: Person) -> None:
    changed: dict[str, int] = dict(person.feed.numbers())
    sentences: list[str] = []
    wake = asyncio.Event()
    wake.set()

    def note(change: Change) -> None:
        if change.channel:
            changed[change.channel] = change.number
        if change.sentence:
            sentences.append(change.sentence)
        wake.set()

    def ended(closed: Session) -> None:
        if closed is session:
            wake.set()

    stop_listening = person.feed.listen(note)
    page.book.on_closed(ended)
    try:
        while True:
            try:
                await asyncio.wait_for(wake.wait(), _ALIVE_SECONDS)
            except TimeoutError:
                changed.setdefault("", 0)  # an empty sign of life keeps proxies from closing the socket
            wake.clear()
            if not page.book.alive(session):
                await socket.close(SIGNED_OUT)
                return
            if person.feed.ended:
                await socket.close(FEED_ENDED, "connect again")
                return
            if changed or sentences:
                message = {"numbers": {k: v for k, v in changed.items() if k}, "say": sentences[-3:]}
                changed.clear()
                sentences.clear()
                await socket.send_text(json.dumps(message, separators=(",", ":")))
    except (WebSocketDisconnect, RuntimeError):
        return
    finally:
        stop_listening()
        page.book.forget_callback(ended)


async def _ticket(request: Request) -> str:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY:
            return ""
    try:
        value: Any = json.loads(body)
    except ValueError:
        return ""
    ticket: Any = cast("dict[str, Any]", value).get("ticket") if isinstance(value, dict) else None
    return ticket if isinstance(ticket, str) else ""


def file_name(name: str) -> str:
    """The last part of an artifact's name, without characters that file systems refuse."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]+', "_", name.rsplit("/", 1)[-1]).strip(". ") or "file"
