"""What a client asks for when it joins, and which settings the embedded Realtime refuses."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from embedded_supabase.realtime.frames import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """The payload of `phx_join`.

    Attributes:
        topic: with the prefix `realtime:`.
        private: whether row-level security shall guard the channel.
        token: an access token or a key; empty if none was sent.
        acknowledges: `broadcast.ack`.
        hears_itself: `broadcast.self`.
        presence_key: `presence.key`, or a fresh one.
        presence_enabled: `presence.enabled`; true if the client is too old to say.
        wants_changes: whether it asks for Postgres Changes.
    """

    topic: str
    private: bool
    token: str = ""
    acknowledges: bool = False
    hears_itself: bool = False
    presence_key: str = field(default_factory=lambda: str(uuid.uuid4()))
    presence_enabled: bool = True
    wants_changes: bool = False


def read_join(frame: Frame) -> JoinRequest:
    """Read what a client asks for; what is missing or of the wrong type has its default."""
    config = _object(frame.payload, "config")
    broadcast, presence = _object(config, "broadcast"), _object(config, "presence")
    return JoinRequest(
        topic=frame.topic,
        private=bool(config.get("private")),
        token=str(frame.payload.get("access_token") or ""),
        acknowledges=bool(broadcast.get("ack")),
        hears_itself=bool(broadcast.get("self")),
        presence_key=str(presence.get("key") or uuid.uuid4()),
        presence_enabled=presence.get("enabled") is not False,
        wants_changes=bool(config.get("postgres_changes")),
    )


def refusal_of_settings(wish: JoinRequest, *, allow_public: bool) -> str | None:
    """Why a join cannot be granted whoever asks, as `Code: sentence`; None if it can."""
    if not wish.topic.startswith("realtime:") or wish.topic == "realtime:":
        return "UnmatchedTopic: unmatched topic"
    if wish.wants_changes:
        return (
            "PostgresChangesNotSupported: The embedded Supabase has no Postgres Changes; call realtime.send "
            "or realtime.broadcast_changes in a trigger and listen to the broadcast."
        )
    if not wish.private and not allow_public:
        return "PrivateOnly: This project only allows private channels."
    return None


def _object(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = source.get(key)
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
