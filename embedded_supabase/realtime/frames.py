"""The two wire formats of Phoenix channels that Supabase's clients speak; no I/O.

Version 1.0.0 is a JSON object per frame, 2.0.0 a JSON array, or bytes for a broadcast:

    client → server   kind 3, lengths of join_ref, ref, topic, event, metadata, then the encoding
                      (1 JSON, 0 bytes), then those five strings, then the payload
    server → client   kind 4, lengths of topic, event, metadata, then encoding, strings and payload
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

Version = Literal["1.0.0", "2.0.0"]
VERSIONS: tuple[Version, ...] = ("1.0.0", "2.0.0")

_CLIENT_BROADCAST = 3
_SERVER_BROADCAST = 4
_JSON = 1
_HEADER = 7


class FrameError(ValueError):
    """Bytes from a client that are no frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One message of a channel.

    Attributes:
        topic: with the prefix `realtime:`, or `phoenix`.
        event: `phx_join`, `broadcast`, `presence`, …
        payload: a JSON object; for a broadcast of bytes, `payload["payload"]` is `bytes`.
        ref: what the answer refers to.
        join_ref: the `ref` of the join that the message belongs to.
    """

    topic: str
    event: str
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ref: str | None = None
    join_ref: str | None = None


def decode(version: Version, data: str | bytes) -> Frame:
    """Read a frame from a client.

    Raises:
        FrameError: it cannot be read.
    """
    if isinstance(data, bytes):
        if version == "1.0.0":
            raise FrameError("bytes need protocol version 2.0.0")
        return _decode_broadcast(data)
    try:
        value: Any = json.loads(data)
    except ValueError as error:
        raise FrameError("not JSON") from error
    if version == "1.0.0":
        if not isinstance(value, dict):
            raise FrameError("not an object")
        entry = cast(dict[str, Any], value)
        parts = [entry.get(key) for key in ("join_ref", "ref", "topic", "event", "payload")]
    else:
        parts = cast(list[Any], value) if isinstance(value, list) else []
        if len(parts) != 5:
            raise FrameError("not an array of five")
    join_ref, ref, topic, event, payload = parts
    if not isinstance(topic, str) or not isinstance(event, str):
        raise FrameError("topic and event must be strings")
    return Frame(
        topic=topic,
        event=event,
        payload=cast(dict[str, Any], payload) if isinstance(payload, dict) else {},
        ref=_reference(ref),
        join_ref=_reference(join_ref),
    )


def _reference(value: object) -> str | None:
    return None if value is None else str(value)


def _decode_broadcast(data: bytes) -> Frame:
    if len(data) < _HEADER or data[0] != _CLIENT_BROADCAST:
        raise FrameError("unknown kind of bytes")
    lengths, encoding = data[1:6], data[6]
    pieces: list[str] = []
    at = _HEADER
    try:
        for length in lengths:
            if at + length > len(data):
                raise FrameError("bytes are cut off")
            pieces.append(data[at : at + length].decode())
            at += length
        join_ref, ref, topic, event, _metadata = pieces
        content: Any = json.loads(data[at:]) if encoding == _JSON else data[at:]
    except ValueError as error:
        raise FrameError("bytes cannot be read") from error
    return Frame(
        topic=topic,
        event="broadcast",
        payload={"type": "broadcast", "event": event, "payload": content},
        ref=ref or None,
        join_ref=join_ref or None,
    )


def encode(version: Version, frame: Frame) -> str | bytes | None:
    """Write a frame for a client; None if its version cannot carry it (bytes in version 1.0.0)."""
    content = frame.payload.get("payload")
    if frame.event == "broadcast" and isinstance(content, bytes):
        return None if version == "1.0.0" else _encode_broadcast(frame, content)
    if version == "1.0.0":
        # realtime-py insists that the key `ref` is there, and that it is null on everything but a reply.
        value: Any = {
            "topic": frame.topic,
            "event": frame.event,
            "payload": frame.payload,
            "ref": frame.ref,
            "join_ref": frame.join_ref,
        }
    else:
        value = [frame.join_ref, frame.ref, frame.topic, frame.event, frame.payload]
    return json.dumps(value, separators=(",", ":"))


def _encode_broadcast(frame: Frame, content: bytes) -> bytes:
    topic = frame.topic.encode()
    event = str(frame.payload.get("event", "")).encode()
    meta = frame.payload.get("meta")
    metadata = json.dumps(meta).encode() if meta else b""
    head = bytes((_SERVER_BROADCAST, len(topic), len(event), len(metadata), 0))
    return head + topic + event + metadata + content


def reply(to: Frame, status: Literal["ok", "error"], response: Mapping[str, Any] | None = None) -> Frame:
    """The answer to a frame."""
    return Frame(
        topic=to.topic,
        event="phx_reply",
        payload={"status": status, "response": response or {}},
        ref=to.ref,
        join_ref=to.join_ref,
    )


def system(topic: str, join_ref: str | None, *, status: Literal["ok", "error"], message: str) -> Frame:
    """What the server says about a channel unasked."""
    return Frame(
        topic=topic,
        event="system",
        payload={
            "extension": "system",
            "status": status,
            "message": message,
            "channel": topic.removeprefix("realtime:"),
        },
        join_ref=join_ref,
    )
