"""One Realtime connection of one person, rebuilt whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

from live.feed import ConnectionState
from live.sessions import SessionEndedError
from pythonic_assistant.domain.errors import AssistantError, StoreUnavailableError

logger = logging.getLogger(__name__)

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0
_JOIN_SECONDS = 10.0
# How often a connection is looked at. realtime-py 2.34 gives up silently after long outages and never rejoins
# a channel that the server closed, so nobody else would notice.
_LOOK_SECONDS = 0.5
# New token before the old one ends; `SessionBook.token` itself decides when to refresh.
_TOKEN_SECONDS = 20.0


class _NotConnectedError(Exception):
    """The connection is gone and has to be built again."""


class Hearer(Protocol):
    """Takes what comes in. Called on the event loop; must not block."""

    def heard_task(self, payload: Mapping[str, Any]) -> None: ...

    def heard_events(self, payload: Mapping[str, Any]) -> None: ...

    def heard_presence(self, state: Mapping[str, Any]) -> None: ...

    def heard_connection(self, state: ConnectionState) -> None: ...


async def keep_connected(
    url: str, key: str, user_id: str, token: Callable[[], Awaitable[str]], hearer: Hearer
) -> None:
    """Stay on the person's topic and on that of the workers until cancelled or the session has ended.

    After every join `heard_connection("connected")` asks the hearer to read the rows again, because what was
    broadcast in between is lost.
    """
    wait = _FIRST_WAIT
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await _one_connection(url, key, user_id, token, hearer)
        except SessionEndedError:
            hearer.heard_connection("lost")
            return
        except (_NotConnectedError, StoreUnavailableError, AssistantError, OSError, TimeoutError) as error:
            logger.info("realtime lost", extra={"action": "realtime", "error": str(error)[:200]})
        except Exception as error:  # noqa: BLE001  realtime-py raises bare exceptions and those of websockets
            logger.warning("realtime failed", extra={"action": "realtime", "error": repr(error)[:200]})
        hearer.heard_connection("lost")
        if asyncio.get_running_loop().time() - started > _LONGEST_WAIT:
            wait = _FIRST_WAIT
        await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311  not for secrecy
        wait = min(wait * 2, _LONGEST_WAIT)


async def _one_connection(
    url: str, key: str, user_id: str, token: Callable[[], Awaitable[str]], hearer: Hearer
) -> None:
    current = await token()
    client = AsyncRealtimeClient(f"{url}/realtime/v1", key, auto_reconnect=False, max_retries=1)
    states: dict[str, RealtimeSubscribeStates] = {}

    def noted(name: str) -> Callable[[RealtimeSubscribeStates, Exception | None], None]:
        def note(state: RealtimeSubscribeStates, _error: Exception | None) -> None:
            states[name] = state

        return note

    def body(message: Any) -> Mapping[str, Any]:
        payload: Any = message.get("payload", {})
        return cast("Mapping[str, Any]", payload)

    try:
        async with asyncio.timeout(_JOIN_SECONDS):
            await client.connect()
            await client.set_auth(current)
            own = client.channel(
                f"user:{user_id}",
                {"config": {"broadcast": {"ack": False, "self": False}, "presence": None, "private": True}},
            )
            own.on_broadcast("task", lambda message: hearer.heard_task(body(message)))
            own.on_broadcast("events", lambda message: hearer.heard_events(body(message)))
            await own.subscribe(noted("user"))
            workers = client.channel(
                "workers",
                {"config": {"broadcast": None, "presence": {"key": "", "enabled": True}, "private": True}},
            )

            def present() -> None:
                hearer.heard_presence(cast("Mapping[str, Any]", workers.presence_state()))

            workers.on_presence_sync(present)
            await workers.subscribe(noted("workers"))
        _ensure(client, states)
        hearer.heard_connection("connected")
        looked = 0.0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            _ensure(client, states)
            looked += _LOOK_SECONDS
            if looked >= _TOKEN_SECONDS:
                looked = 0.0
                fresh = await token()
                if fresh != current:
                    current = fresh
                    await client.set_auth(current)
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.close(), timeout=2.0)


def _ensure(client: AsyncRealtimeClient, states: Mapping[str, RealtimeSubscribeStates]) -> None:
    if not client.is_connected:
        raise _NotConnectedError("socket closed")
    for name in ("user", "workers"):
        if states.get(name) is not RealtimeSubscribeStates.SUBSCRIBED:
            raise _NotConnectedError(f"channel {name}: {states.get(name)}")
