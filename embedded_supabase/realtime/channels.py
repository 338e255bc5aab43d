"""Rooms and their members: who hears what."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from embedded_supabase.realtime.authorization import Identity, Rights
from embedded_supabase.realtime.frames import Frame, Version, encode
from embedded_supabase.realtime.presence import Metas, Presence

QUEUE_FRAMES = 1_000
QUEUE_BYTES = 8 << 20
_numbers = count(1)


class Outbox:
    """What waits to be sent to one socket; bounded, so that a slow reader costs a socket, not the memory.

    Attributes:
        overflowed: set once more waits than `QUEUE_FRAMES` or `QUEUE_BYTES`; the socket is to be closed.
    """

    def __init__(self) -> None:
        self.overflowed = False
        self._waiting: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._bytes = 0

    def put(self, data: str | bytes | None) -> None:
        """Queue a frame; after an overflow nothing more is taken. None ends the socket."""
        if self.overflowed:
            return
        self._bytes += len(data or "")
        if self._waiting.qsize() >= QUEUE_FRAMES or self._bytes > QUEUE_BYTES:
            self.overflowed = True
            self._waiting = _drained(self._waiting)
            data = None
        self._waiting.put_nowait(data)

    async def get(self) -> str | bytes | None:
        """Wait for the next frame; None means that the socket is to be closed."""
        data = await self._waiting.get()
        self._bytes -= len(data or "")
        return data


def _drained(queue: asyncio.Queue[str | bytes | None]) -> asyncio.Queue[str | bytes | None]:
    while not queue.empty():
        queue.get_nowait()
    return queue


@dataclass(slots=True, kw_only=True, eq=False)
class Channel:
    """One topic that one socket has joined.

    Attributes:
        topic: with the prefix.
        private: whether row-level security guards it; private and public topics of one name are two rooms.
        join_ref: of the join.
        version: of the socket's protocol.
        outbox: of the socket.
        identity: who joined.
        rights: what they may do.
        acknowledges: whether a broadcast is answered.
        hears_itself: whether a broadcast comes back to its sender.
        presence_key: what the member's presence is filed under.
        presence_enabled: whether presence is told to it.
        checked_at: when `rights` were asked for, in seconds of the event loop.
        number: identity of the member in Presence.
    """

    topic: str
    private: bool
    join_ref: str | None
    version: Version
    outbox: Outbox
    identity: Identity
    rights: Rights
    acknowledges: bool
    hears_itself: bool
    presence_key: str
    presence_enabled: bool
    checked_at: float
    number: int = field(default_factory=lambda: next(_numbers))

    def send(self, frame: Frame) -> None:
        """Queue a frame for the member."""
        data = encode(self.version, frame)
        if data is not None:
            self.outbox.put(data)


@dataclass(slots=True)
class Room:
    """All members of one topic.

    Attributes:
        members: in the order of joining.
        presence: who of them is present.
    """

    members: dict[Channel, None] = field(default_factory=dict[Channel, None])
    presence: Presence = field(default_factory=Presence)


class Hub:
    """All rooms of this server."""

    def __init__(self) -> None:
        self._rooms: dict[tuple[str, bool], Room] = {}

    def join(self, channel: Channel) -> None:
        """Let a member in."""
        room = self._rooms.setdefault((channel.topic, channel.private), Room())
        room.members[channel] = None

    def present(self, channel: Channel) -> Metas:
        """Everybody who is present in a member's room."""
        return self._rooms[(channel.topic, channel.private)].presence.state()

    def leave(self, channel: Channel) -> None:
        """Let a member out, and tell the others if it was present."""
        room = self._rooms.get((channel.topic, channel.private))
        if room is None or channel not in room.members:
            return
        del room.members[channel]
        self.untrack(channel)
        if not room.members:
            del self._rooms[(channel.topic, channel.private)]

    def track(self, channel: Channel, payload: Mapping[str, Any]) -> None:
        """Enter a member's presence and tell the room, the member included."""
        room = self._rooms[(channel.topic, channel.private)]
        self._tell_presence(
            room, channel.topic, room.presence.track(channel.number, channel.presence_key, payload)
        )

    def untrack(self, channel: Channel) -> None:
        """Take a member's presence out and tell the room."""
        room = self._rooms.get((channel.topic, channel.private))
        if room is not None and (diff := room.presence.untrack(channel.number)) is not None:
            self._tell_presence(room, channel.topic, diff)

    @staticmethod
    def _tell_presence(room: Room, topic: str, diff: Mapping[str, Any]) -> None:
        frame = Frame(topic=topic, event="presence_diff", payload=diff)
        data: dict[Version, str | bytes | None] = {}
        for member in room.members:
            if member.presence_enabled and "presence" in member.rights.receive:
                _deliver(member, frame, data)

    def broadcast(
        self, topic: str, payload: Mapping[str, Any], *, private: bool, sender: Channel | None = None
    ) -> None:
        """Send a broadcast to a room.

        Args:
            topic: with the prefix.
            payload: `type`, `event`, `payload` and perhaps `meta`.
            private: which of the two rooms of that name.
            sender: who is left out, unless it asked to hear itself.
        """
        room = self._rooms.get((topic, private))
        if room is None:
            return
        frame = Frame(topic=topic, event="broadcast", payload=payload)
        data: dict[Version, str | bytes | None] = {}
        for member in room.members:
            if "broadcast" in member.rights.receive and (member is not sender or member.hears_itself):
                _deliver(member, frame, data)


def _deliver(member: Channel, frame: Frame, data: dict[Version, str | bytes | None]) -> None:
    if member.version not in data:
        data[member.version] = encode(member.version, frame)
    encoded = data[member.version]
    if encoded is not None:
        member.outbox.put(encoded)
