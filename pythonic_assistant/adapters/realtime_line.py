"""A Realtime connection that comes back by itself.

The official client gives up after some tries and never rejoins a channel that the server closed (seen in
realtime 2.34), so a lost connection is thrown away whole and built anew. What was missed meanwhile is for the
owner of the line to catch up from the rows: `on_up` is when to do it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0
JOIN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
LOOK_SECONDS = 0.5
"""How often the client is asked whether it is still connected, beside what its callbacks tell."""
TOKEN_SECONDS = 20.0
"""How often the token is asked for; whoever gives it decides whether it is time for a new one."""

Heard = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A private channel to be joined whenever the line is up.

    Callbacks are called on the event loop and have to return at once.

    Attributes:
        on_broadcast: by event name, called with the payload.
        on_presence: called with the channel's Presence, whole, whenever it changes: lists of metas by key.
        track: what to track of oneself in the channel's Presence, or None.
        presence_key: one's key there; one join is one key.
    """

    topic: str
    on_broadcast: Mapping[str, Heard] = field(default_factory=dict[str, Heard])
    on_presence: Heard | None = None
    track: Callable[[], Mapping[str, Any]] | None = None
    presence_key: str = ""


class _LostError(Exception):
    """The connection, or one of its channels, is gone."""


class RealtimeLine:
    """Keeps subscriptions alive.

    Args:
        url: of Supabase; `/realtime/v1` is added.
        key: the API key; also the token unless `token` is given.
        token: gives a person's access token; asked for at each connection and from time to time.
        ends: errors of `token` after which there is nothing to come back for.
        on_up: called each time all subscriptions have been joined.
        on_down: called each time the connection was lost or could not be made.
    """

    def __init__(
        self,
        *,
        url: str,
        key: str,
        subscriptions: Sequence[Subscription],
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        token: Callable[[], Awaitable[str]] | None = None,
        ends: tuple[type[Exception], ...] = (),
    ) -> None:
        self._url = url.rstrip("/") + "/realtime/v1"
        self._key = key
        self._subscriptions = tuple(subscriptions)
        self._on_up = on_up
        self._on_down = on_down
        self._token = token
        self._ends = ends
        self._was_up = False

    async def keep(self) -> None:
        """Run until cancelled, or until the token's giver raises one of `ends`."""
        wait = FIRST_WAIT_SECONDS
        while True:
            self._was_up = False
            try:
                await self._hold()
            except self._ends:
                self._on_down()
                return
            except Exception as error:  # noqa: BLE001  the client raises bare exceptions and those of websockets
                log.info("realtime lost", extra={"action": "realtime_lost", "reason": repr(error)[:200]})
            self._on_down()
            if self._was_up:
                wait = FIRST_WAIT_SECONDS
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311  so that not all come at once
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    async def _hold(self) -> None:
        """Connect, join everything, and stay until anything of it is lost.

        Raises:
            _LostError: it is lost.
        """
        client = AsyncRealtimeClient(self._url, token=self._key, auto_reconnect=False, max_retries=1)
        lost = asyncio.Event()
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                token = await self._authorize(client, None)
                for subscription in self._subscriptions:
                    await self._join(client, subscription, lost)
            if lost.is_set():
                raise _LostError("a channel could not be joined")
            self._was_up = True
            self._on_up()
            asked = asyncio.get_running_loop().time()
            while await self._still_there(client, lost):
                if asyncio.get_running_loop().time() - asked > TOKEN_SECONDS:
                    token = await self._authorize(client, token)
                    asked = asyncio.get_running_loop().time()
        finally:
            await self._close(client)

    async def _still_there(self, client: AsyncRealtimeClient, lost: asyncio.Event) -> bool:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await lost.wait()
        except TimeoutError:
            if client.is_connected:
                return True
            raise _LostError("the connection was closed") from None
        raise _LostError("a channel was closed")

    async def _authorize(self, client: AsyncRealtimeClient, known: str | None) -> str | None:
        if self._token is None:
            return None
        token = await self._token()
        if token != known:
            await client.set_auth(token)
        return token

    async def _join(
        self, client: AsyncRealtimeClient, subscription: Subscription, lost: asyncio.Event
    ) -> None:
        presence = subscription.track is not None or subscription.on_presence is not None
        channel: AsyncRealtimeChannel = client.channel(
            subscription.topic,
            {
                "config": {
                    "broadcast": {"ack": False, "self": False},
                    "presence": {"key": subscription.presence_key, "enabled": presence},
                    "private": True,
                }
            },
        )
        for event, heard in subscription.on_broadcast.items():
            channel.on_broadcast(event, _payload_to(heard))
        if subscription.on_presence is not None:
            channel.on_presence_sync(_state_to(subscription.on_presence, channel))

        def state_changed(state: RealtimeSubscribeStates, error: Exception | None) -> None:
            if state is not RealtimeSubscribeStates.SUBSCRIBED:
                log.info(
                    "channel lost",
                    extra={"action": "channel_lost", "topic": subscription.topic, "reason": str(error)},
                )
                lost.set()

        await channel.subscribe(state_changed)
        if subscription.track is not None and not lost.is_set():
            await channel.track(dict(subscription.track()))

    async def _close(self, client: AsyncRealtimeClient) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.close()
        except Exception as error:  # noqa: BLE001  what cannot be closed is dropped; a new one is built anyway
            log.info("realtime not closed", extra={"action": "realtime_close", "reason": repr(error)[:200]})


def _payload_to(heard: Heard) -> Callable[[Any], None]:
    def received(message: Any) -> None:
        heard(message["payload"])

    return received


def _state_to(heard: Heard, channel: AsyncRealtimeChannel) -> Callable[[], None]:
    def changed() -> None:
        heard(cast("Mapping[str, Any]", channel.presence_state()))

    return changed
