"""One client's WebSocket: joins, heartbeats, broadcasts, presence, tokens that expire."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, cast

from embedded_supabase import sql
from embedded_supabase.gateway.access import Access
from embedded_supabase.gateway.asgi import Receive, Send
from embedded_supabase.realtime.authorization import (
    EVERYTHING,
    DeniedError,
    Identity,
    Rights,
    identify,
    rights_on,
)
from embedded_supabase.realtime.channels import Channel, Hub, Outbox
from embedded_supabase.realtime.frames import Frame, FrameError, Version, decode, encode, reply, system
from embedded_supabase.realtime.joining import JoinRequest, read_join, refusal_of_settings

log = logging.getLogger(__name__)

CHANNELS_PER_SOCKET = 100  # Realtime limits of hosted Supabase
PAYLOAD_BYTES = 256 << 10  # likewise
SILENCE_SECONDS = 90.0
"""A client sends a heartbeat every 25 or 30 s: after three missed ones it is gone."""

RECHECK_SECONDS = 300.0
"""Hosted Supabase asks again at least that often whether a channel is still allowed."""

_GOING_AWAY, _TOO_SLOW = 1001, 1008  # RFC 6455, section 7.4.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimeSettings:
    """What all sockets share.

    Attributes:
        hub: the rooms.
        access: keys and token secret.
        pool: connections for questions to row-level security.
        allow_public: whether channels that row-level security does not guard may be joined.
    """

    hub: Hub
    access: Access
    pool: sql.Pool
    allow_public: bool


class RealtimeSocket:
    """One connection of a client."""

    def __init__(self, settings: RealtimeSettings, *, version: Version, key: str) -> None:
        self._settings = settings
        self._version: Version = version
        self._key = key
        self._outbox = Outbox()
        self._channels: dict[str, Channel] = {}
        self._changed = asyncio.Event()

    async def run(self, receive: Receive, send: Send) -> None:
        """Serve the client until either side closes; every join is undone then."""
        tasks = [
            asyncio.create_task(work)
            for work in (self._read(receive), self._write(send), self._watch_tokens())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for channel in list(self._channels.values()):
                self._settings.hub.leave(channel)
            self._channels.clear()

    async def _write(self, send: Send) -> None:
        while (data := await self._outbox.get()) is not None:
            content = {"bytes": data} if isinstance(data, bytes) else {"text": data}
            await send({"type": "websocket.send", **content})
        code = _TOO_SLOW if self._outbox.overflowed else _GOING_AWAY
        await send(
            {"type": "websocket.close", "code": code, "reason": "too slow" if code == _TOO_SLOW else ""}
        )

    async def _read(self, receive: Receive) -> None:
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await receive()
            except TimeoutError:
                return
            if message["type"] == "websocket.disconnect":
                return
            if message["type"] != "websocket.receive":
                continue
            data: str | bytes = message.get("bytes") or message.get("text") or ""
            try:
                frame = decode(self._version, data)
            except FrameError as error:
                log.debug("a frame was dropped: %s", error)
                continue
            await self._handle(frame, size=len(data))

    async def _handle(self, frame: Frame, *, size: int) -> None:
        if frame.topic == "phoenix":
            self._send(reply(frame, "ok"))
            return
        if frame.event == "phx_join":
            await self._join(frame)
            return
        channel = self._channels.get(frame.topic)
        if channel is None:
            self._send(reply(frame, "error", {"reason": "unmatched topic"}))
            return
        if frame.join_ref is not None and frame.join_ref != channel.join_ref:
            return  # meant for a channel that a later join has replaced
        match frame.event:
            case "phx_leave":
                self._leave(channel)
                self._send(reply(frame, "ok"))
                self._send(
                    Frame(
                        topic=channel.topic,
                        event="phx_close",
                        ref=channel.join_ref,
                        join_ref=channel.join_ref,
                    )
                )
            case "access_token":
                await self._renew(channel, str(frame.payload.get("access_token") or ""))
            case "broadcast":
                self._broadcast(channel, frame, size)
            case "presence":
                self._presence(channel, frame)
            case _:
                self._send(reply(frame, "error", {"reason": f"unknown event {frame.event}"}))

    def _send(self, frame: Frame) -> None:
        data = encode(self._version, frame)
        if data is not None:
            self._outbox.put(data)

    async def _join(self, frame: Frame) -> None:
        wish = read_join(frame)
        try:
            self._check_wish(wish)
            identity = identify(wish.token or self._key, self._settings.access)
            rights = await self._rights(wish, identity)
        except DeniedError as error:
            self._send(reply(frame, "error", {"reason": str(error)}))
            return
        if (before := self._channels.get(frame.topic)) is not None:
            self._leave(before)
            self._send(
                Frame(topic=before.topic, event="phx_close", ref=before.join_ref, join_ref=before.join_ref)
            )
        channel = Channel(
            topic=frame.topic,
            private=wish.private,
            join_ref=frame.ref if frame.join_ref is None else frame.join_ref,
            version=self._version,
            outbox=self._outbox,
            identity=identity,
            rights=rights,
            acknowledges=wish.acknowledges,
            hears_itself=wish.hears_itself,
            presence_key=wish.presence_key,
            presence_enabled=wish.presence_enabled,
            checked_at=asyncio.get_running_loop().time(),
        )
        self._channels[frame.topic] = channel
        self._settings.hub.join(channel)
        self._changed.set()
        self._send(reply(frame, "ok", {"postgres_changes": []}))
        if channel.presence_enabled:
            self._tell_who_is_present(channel)

    def _tell_who_is_present(self, channel: Channel) -> None:
        if "presence" in channel.rights.receive:
            state = self._settings.hub.present(channel)
            channel.send(
                Frame(topic=channel.topic, event="presence_state", payload=state, join_ref=channel.join_ref)
            )

    def _check_wish(self, wish: JoinRequest) -> None:
        if (reason := refusal_of_settings(wish, allow_public=self._settings.allow_public)) is not None:
            raise DeniedError(reason)
        if len(self._channels) >= CHANNELS_PER_SOCKET and wish.topic not in self._channels:
            raise DeniedError(f"ChannelRateLimitReached: Too many channels ({CHANNELS_PER_SOCKET}).")

    async def _rights(self, wish: JoinRequest, identity: Identity) -> Rights:
        if not wish.private:
            return EVERYTHING
        topic = wish.topic.removeprefix("realtime:")
        try:
            rights = await rights_on(self._settings.pool, identity, topic)
        except sql.UNREACHABLE as error:
            raise DeniedError(
                "UnableToConnectToTenantDatabase: The database is restarting, join again."
            ) from error
        # As on hosted Supabase, leave to see who is present opens a channel only if that is asked for.
        if not (rights.receive if wish.presence_enabled else rights.receive - {"presence"}):
            raise DeniedError(
                f"Unauthorized: You do not have permissions to read from this Channel topic: {topic}"
            )
        return rights

    async def _rights_anew(self, channel: Channel, identity: Identity) -> Rights:
        wish = JoinRequest(
            topic=channel.topic, private=channel.private, presence_enabled=channel.presence_enabled
        )
        rights = await self._rights(wish, identity)
        if channel.rights.receive - rights.receive:
            raise DeniedError("Unauthorized: You no longer have permission to read from this Channel topic.")
        return rights

    def _leave(self, channel: Channel) -> None:
        self._channels.pop(channel.topic, None)
        self._settings.hub.leave(channel)

    def _close(self, channel: Channel, message: str) -> None:
        self._leave(channel)
        channel.send(system(channel.topic, channel.join_ref, status="error", message=message))
        channel.send(
            Frame(topic=channel.topic, event="phx_close", ref=channel.join_ref, join_ref=channel.join_ref)
        )

    async def _renew(self, channel: Channel, token: str) -> None:
        if not token or token.startswith("sb_"):
            return  # as hosted Supabase: who signs out, or has only a key, keeps what was joined
        try:
            identity = identify(token, self._settings.access)
            rights = await self._rights_anew(channel, identity)
        except DeniedError as error:
            self._close(channel, str(error))
            return
        channel.identity, channel.rights = identity, rights
        channel.checked_at = asyncio.get_running_loop().time()
        self._changed.set()

    def _broadcast(self, channel: Channel, frame: Frame, size: int) -> None:
        refused = None
        if size > PAYLOAD_BYTES:
            refused = f"PayloadTooLarge: A broadcast may have {PAYLOAD_BYTES >> 10} KiB."
        elif "broadcast" not in channel.rights.send:
            refused = "Unauthorized: You do not have permissions to send to this Channel topic."
        if refused is not None:
            # Hosted Supabase stays silent unless the client asked for an acknowledgement.
            if channel.acknowledges:
                self._send(reply(frame, "error", {"reason": refused}))
            return
        self._settings.hub.broadcast(channel.topic, frame.payload, private=channel.private, sender=channel)
        if channel.acknowledges:
            self._send(reply(frame, "ok"))

    def _presence(self, channel: Channel, frame: Frame) -> None:
        if "presence" not in channel.rights.send:
            reason = "Unauthorized: You do not have permissions to track presence on this Channel topic."
            self._send(reply(frame, "error", {"reason": reason}))
            return
        wanted = str(frame.payload.get("event", "")).lower()
        content = frame.payload.get("payload")
        if wanted == "track":
            self._send(reply(frame, "ok"))
            if not channel.presence_enabled:
                channel.presence_enabled = True
                self._tell_who_is_present(channel)
            self._settings.hub.track(
                channel, cast(dict[str, Any], content) if isinstance(content, dict) else {}
            )
        elif wanted == "untrack":
            self._send(reply(frame, "ok"))
            self._settings.hub.untrack(channel)
        else:
            self._send(reply(frame, "error", {"reason": f"unknown presence event {wanted!r}"}))

    async def _watch_tokens(self) -> None:
        """Close channels whose token has expired, and ask again for the rights of the others."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            now, wall = loop.time(), time.time()
            for channel in list(self._channels.values()):
                expires = channel.identity.expires_at
                if expires is not None and expires <= wall:
                    self._close(channel, "InvalidJWTToken: Token has expired.")
                elif (
                    channel.private
                    and not channel.identity.bypasses
                    and now - channel.checked_at >= RECHECK_SECONDS
                ):
                    await self._check_again(channel, now)
            waits = [RECHECK_SECONDS] + [
                channel.identity.expires_at - wall
                for channel in self._channels.values()
                if channel.identity.expires_at is not None
            ]
            try:
                async with asyncio.timeout(max(0.05, min(waits))):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _check_again(self, channel: Channel, now: float) -> None:
        try:
            channel.rights = await self._rights_anew(channel, channel.identity)
            channel.checked_at = now
        except DeniedError as error:
            self._close(channel, str(error))
