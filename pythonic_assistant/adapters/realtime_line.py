"""A Realtime connection that comes back by itself.

The official client gives up after some tries and never rejoins a channel that the server closed (its
README calls delivery best effort), so a lost connection is thrown away whole and built anew. What was missed
meanwhile is for the owner of the line to catch up from the rows: `on_up` is when to do it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates
from websockets.exceptions import WebSocketException

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0
LOOK_SECONDS = 1.0
"""How often the client is asked whether it is still connected, beside what its callbacks tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A private channel to be joined whenever the line is up.

    Attributes:
        on_broadcast: by event name, called on the event loop with the payload; has to return at once.
        presence: what to track of oneself in the channel's Presence, or None.
        presence_key: one's key there; one join is one key.
    """

    topic: str
    on_broadcast: Mapping[str, Callable[[Mapping[str, Any]], None]] = field(
        default_factory=dict[str, Callable[[Mapping[str, Any]], None]]
    )
    presence: Callable[[], Mapping[str, Any]] | None = None
    presence_key: str = ""


class RealtimeLine:
    """Keeps subscriptions alive until it is cancelled.

    Args:
        url: of Supabase; `/realtime/v1` is added.
        key: the API key; also the token unless `token` is given.
        token: gives a person's access token, asked for at each connection.
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
    ) -> None:
        self._url = url.rstrip("/") + "/realtime/v1"
        self._key = key
        self._subscriptions = tuple(subscriptions)
        self._on_up = on_up
        self._on_down = on_down
        self._token = token
        self._up_once = False

    async def keep(self) -> None:
        """Run for ever."""
        wait = FIRST_WAIT_SECONDS
        while True:
            self._up_once = False
            try:
                await self._hold()
            except (OSError, TimeoutError, WebSocketException, ConnectionError) as error:
                log.info("realtime not reached", extra={"action": "realtime_down", "reason": str(error)})
            self._on_down()
            wait = FIRST_WAIT_SECONDS if self._up_once else min(wait * 2, LONGEST_WAIT_SECONDS)
            await asyncio.sleep(wait)

    async def _hold(self) -> None:
        """Connect, join everything, and return when anything of it is lost."""
        client = AsyncRealtimeClient(self._url, token=self._key, auto_reconnect=False, max_retries=1)
        lost = asyncio.Event()
        try:
            if self._token is not None:
                await client.set_auth(await self._token())
            for subscription in self._subscriptions:
                await self._join(client, subscription, lost)
                if lost.is_set():
                    return
            self._up_once = True
            self._on_up()
            while client.is_connected and not lost.is_set():
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await lost.wait()
                except TimeoutError:
                    continue  # a look that found nothing; the condition of the loop is the look
        finally:
            await client.close()

    async def _join(
        self, client: AsyncRealtimeClient, subscription: Subscription, lost: asyncio.Event
    ) -> None:
        channel: AsyncRealtimeChannel = client.channel(
            subscription.topic,
            {
                "config": {
                    "broadcast": {"ack": False, "self": False},
                    "presence": {
                        "key": subscription.presence_key,
                        "enabled": subscription.presence is not None,
                    },
                    "private": True,
                }
            },
        )
        for event, callback in subscription.on_broadcast.items():
            channel.on_broadcast(event, _payload_to(callback))

        def state_changed(state: RealtimeSubscribeStates, error: Exception | None) -> None:
            if state is not RealtimeSubscribeStates.SUBSCRIBED:
                log.info(
                    "channel lost",
                    extra={"action": "channel_lost", "topic": subscription.topic, "reason": str(error)},
                )
                lost.set()

        await channel.subscribe(state_changed)
        if subscription.presence is not None and not lost.is_set():
            await channel.track(dict(subscription.presence()))


def _payload_to(callback: Callable[[Mapping[str, Any]], None]) -> Callable[[Any], None]:
    def received(message: Any) -> None:
        callback(message["payload"])

    return received
