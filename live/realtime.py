"""What the page listens to for one person: their own topic, and who of the workers is online."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from live.feed import ConnectionState
from live.sessions import SessionEndedError
from pythonic_assistant.adapters.realtime_line import RealtimeLine, Subscription


class Hearer(Protocol):
    """Takes what comes in. Called on the event loop; must not block."""

    def heard_task(self, payload: Mapping[str, Any]) -> None: ...

    def heard_tasks(self, payload: Mapping[str, Any]) -> None: ...

    def heard_approvals(self, payload: Mapping[str, Any]) -> None: ...

    def heard_events(self, payload: Mapping[str, Any]) -> None: ...

    def heard_delivery(self, _payload: Mapping[str, Any]) -> None: ...

    def heard_presence(self, state: Mapping[str, Any]) -> None: ...

    def heard_connection(self, state: ConnectionState) -> None: ...


async def keep_connected(
    url: str, key: str, user_id: str, token: Callable[[], Awaitable[str]], hearer: Hearer
) -> None:
    """Stay on both topics until cancelled or the session has ended.

    After every join `heard_connection("connected")` asks the hearer to read the rows again, because what was
    broadcast in between is lost.
    """
    line = RealtimeLine(
        url=url,
        key=key,
        token=token,
        ends=(SessionEndedError,),
        subscriptions=(
            Subscription(
                topic=f"user:{user_id}",
                on_broadcast={
                    "task": hearer.heard_task,
                    "tasks": hearer.heard_tasks,
                    "approvals": hearer.heard_approvals,
                    "events": hearer.heard_events,
                    "delivery": hearer.heard_delivery,
                },
            ),
            Subscription(topic="workers", on_presence=hearer.heard_presence),
        ),
        on_up=lambda: hearer.heard_connection("connected"),
        on_down=lambda: hearer.heard_connection("lost"),
    )
    await line.keep()
