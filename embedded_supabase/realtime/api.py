"""Broadcast over HTTP: `POST /realtime/v1/api/broadcast` and `…/api/broadcast/<topic>/events/<event>`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

from embedded_supabase.gateway.asgi import Receive, RefusedError, Scope, header, read_body
from embedded_supabase.realtime.authorization import DeniedError, Identity, identify, rights_on
from embedded_supabase.realtime.socket import PAYLOAD_BYTES, RealtimeSettings
from embedded_supabase.sql import UNREACHABLE

_ONE_EVENT = re.compile(r"/realtime/v1/api/broadcast/(?P<topic>[^/]+)/events/(?P<event>[^/]+)")
BODY_BYTES = 3 << 20  # of a batch; each message has the limit of a broadcast


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """One message of a batch.

    Attributes:
        topic: without the prefix.
        event: its name.
        payload: any JSON.
        private: which room of that name.
    """

    topic: str
    event: str
    payload: Any
    private: bool


async def post_broadcast(scope: Scope, receive: Receive, settings: RealtimeSettings, key: str) -> None:
    """Send the messages of a request; either all may be sent or none is.

    Raises:
        RefusedError: the request cannot be read, or a message may not be sent.
    """
    messages = _read(scope, await read_body(receive, BODY_BYTES))
    bearer = (header(scope, "authorization") or "").removeprefix("Bearer ").strip()
    try:
        identity = identify(bearer or key, settings.access)
    except DeniedError as error:
        raise RefusedError(401, "unauthorized", str(error)) from error
    for topic in {message.topic for message in messages if message.private}:
        await _check(settings, identity, topic)
    if not settings.allow_public and any(not message.private for message in messages):
        raise RefusedError(403, "private_only", "This project only allows private channels.")
    for message in messages:
        settings.hub.broadcast(
            f"realtime:{message.topic}",
            {"type": "broadcast", "event": message.event, "payload": message.payload},
            private=message.private,
        )


async def _check(settings: RealtimeSettings, identity: Identity, topic: str) -> None:
    try:
        rights = await rights_on(settings.pool, identity, topic)
    except UNREACHABLE as error:
        raise RefusedError(
            503, "restarting", "The database is restarting.", [("Retry-After", "1")]
        ) from error
    if "broadcast" not in rights.send:
        raise RefusedError(403, "unauthorized", f"You may not send to the topic {topic}.")


def _read(scope: Scope, body: bytes) -> list[OutgoingMessage]:
    try:
        value: Any = json.loads(body)
    except ValueError as error:
        raise RefusedError(400, "bad_json", "The body is not JSON.") from error
    if match := _ONE_EVENT.fullmatch(scope["path"]):
        private = b"private=true" in scope["query_string"]
        topic, event = unquote(match["topic"]), unquote(match["event"])
        return [_measured(OutgoingMessage(topic=topic, event=event, payload=value, private=private))]
    entries: Any = cast(dict[str, Any], value).get("messages") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        raise RefusedError(422, "bad_messages", "The body needs a list `messages`.")
    return [_message(entry) for entry in cast(list[Any], entries)]


def _message(entry: Any) -> OutgoingMessage:
    fields = cast(dict[str, Any], entry) if isinstance(entry, dict) else {}
    topic, event = fields.get("topic"), fields.get("event")
    if not isinstance(topic, str) or not isinstance(event, str) or not topic or not event:
        raise RefusedError(422, "bad_message", "Each message needs a topic and an event.")
    return _measured(
        OutgoingMessage(
            topic=topic, event=event, payload=fields.get("payload"), private=bool(fields.get("private"))
        )
    )


def _measured(message: OutgoingMessage) -> OutgoingMessage:
    if len(json.dumps(message.payload)) > PAYLOAD_BYTES:
        raise RefusedError(413, "too_large", f"A broadcast may have {PAYLOAD_BYTES >> 10} KiB.")
    return message
