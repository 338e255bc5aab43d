"""The ledger of one attempt: each action outside is a row before it is done, and its outcome one after."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, TypeVar
from uuid import uuid4

from pythonic_assistant.domain.effect import (
    Action,
    Begun,
    Done,
    Go,
    Look,
    NotAllowed,
    Outcome,
    Place,
    key_of,
    without_placeholders,
)
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.ports import EffectStore, Fence
from pythonic_assistant.wire import storable

log = logging.getLogger(__name__)
Result = TypeVar("Result")

ENDED: Final = "The attempt that this code belongs to has ended, so nothing is done any more."
_FIRST_RETRY_SECONDS: Final = 0.2
_LONGEST_RETRY_SECONDS: Final = 5.0


class Ledger:
    """See `ports.EffectLedger`.

    Args:
        stored: waits until everything that the run has told is in the database; False if it never will be.
        items: how long the conversation is that earlier attempts left.

    Attributes:
        waiting: its result says what the task has to wait for; then the attempt ends.
        redactor: of what may be written down.
    """

    def __init__(
        self, store: EffectStore, fence: Fence, *, stored: Callable[[], Awaitable[bool]], items: int = 0
    ) -> None:
        self._store = store
        self._fence = fence
        self._stored = stored
        self._items = items
        self._longer = asyncio.Condition()
        self._serial = -1
        self._count: Counter[str] = Counter()
        self._flying: dict[str, asyncio.Event] = {}  # what has come to the ledger and not left it
        self._acting: set[str] = set()
        self._closed = False
        self.waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.redactor = Redactor({})

    async def heard(self, position: int) -> None:
        """Take note that the conversation has an item at this position, and is about to be stored."""
        async with self._longer:
            self._items = max(self._items, position + 1)
            self._longer.notify_all()

    async def begin(self, action: Action, place: Place, *, look: Look | None = None) -> Begun:
        """As the port.

        Args:
            look: settles an unknown outcome, where the other side can be asked.
        """
        if place.serial != self._serial:
            self._serial = place.serial
            self._count.clear()
        self._count[action.digest] += 1
        key = key_of(place, action.digest, self._count[action.digest])
        while (flying := self._flying.get(key)) is not None:
            await flying.wait()  # code that was given up may still be at it
        await self._ensure_open()
        # Without its conversation a new attempt would write other code, and do the same in other words.
        if not await self._conversation_stored(place):
            return NotAllowed(ENDED)
        self._flying[key] = asyncio.Event()
        try:
            begun = await self._begin(action, place, key, look)
        except BaseException:
            self._landed(key)
            raise
        if isinstance(begun, Go):
            self._acting.add(key)
        else:
            self._landed(key)
        return begun

    async def end(self, key: str, outcome: Outcome, *, result: Any = None, error: str | None = None) -> None:
        """As the port."""
        result = self._clean(result)
        error = None if error is None else str(self._clean(error))
        try:
            kept = await self._persist(
                lambda: self._store.end_effect(self._fence, key, outcome, result=result, error=error)
            )
        finally:
            self._landed(key)
        if not kept:
            log.warning(
                "an effect's outcome came too late",
                extra={"action": "effect_late", "task_id": self._fence.task_id, "outcome": outcome},
            )

    async def settled(self, seconds: float) -> None:
        """Begin nothing more, and wait until what was begun has ended, at most so long."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._acting:
                    await self._flying[next(iter(self._acting))].wait()

    async def _begin(self, action: Action, place: Place, key: str, look: Look | None) -> Begun:
        row = self._row(action, place, key)
        while True:
            try:
                said = await self._persist(lambda: self._store.begin_effect(self._fence, row))
            except InvalidInputError as error:
                return NotAllowed(f"This cannot be written down, so it is not done: {error}")
            do: Literal["go", "done", "refused", "ask", "unknown", "lost"] = said["do"]
            match do:
                case "go":
                    return Go(key, said["idempotency_key"])
                case "done":
                    return Done(said["state"] == "succeeded", said.get("result"), said.get("error"))
                case "refused":
                    return NotAllowed(said["why"])
                case "lost":
                    return NotAllowed(ENDED)
                case "ask":
                    await self._wait_for("a decision", action)
                case "unknown":
                    if not await self._looked(look, said["effect_key"], said["idempotency_key"]):
                        await self._ask_outcome(said["effect_key"], row["preview"], action)

    async def _ask_outcome(self, key: str, preview: Mapping[str, Any], action: Action) -> None:
        """Ask the person whether it happened; returns when that is settled already, or nobody is to ask."""
        asked = await self._persist(lambda: self._store.ask_outcome(self._fence, key, preview))
        if asked["do"] == "ask":
            await self._wait_for("word whether it happened", action)

    async def _looked(self, look: Look | None, key: str, idempotency_key: str) -> bool:
        """Ask the other side about an unknown outcome; True when that has settled it."""
        if look is None:
            return False
        try:
            happened, result = await look(idempotency_key)
        except Exception as error:  # noqa: BLE001  whatever is wrong with it, the person can still say
            log.warning(
                "an outcome could not be looked up",
                extra={
                    "action": "reconcile",
                    "task_id": self._fence.task_id,
                    "reason": type(error).__name__,
                },
            )
            return False
        if happened is None:
            return False
        state, result = ("succeeded", self._clean(result)) if happened else ("approved", None)
        return await self._persist(lambda: self._store.end_effect(self._fence, key, state, result=result))

    async def _wait_for(self, what: str, action: Action) -> None:
        """Tell that the task has to wait; never returns, because the attempt ends."""
        if not self.waiting.done():
            about = action.question or action.name
            self.waiting.set_result(str(self._clean(f"{what}: {about}"))[:500])
        await self._for_ever()

    async def _ensure_open(self) -> None:
        if self._closed or self.waiting.done():
            await self._for_ever()

    async def _for_ever(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def _conversation_stored(self, place: Place) -> bool:
        async with self._longer:
            await self._longer.wait_for(lambda: self._items >= place.items)
        return await self._stored()

    def _row(self, action: Action, place: Place, key: str) -> dict[str, Any]:
        return {
            "effect_key": key,
            "digest": action.digest,
            "step_id": place.step_id[:100],
            "execution": place.execution,
            "rerun": place.rerun,
            "call": str(uuid4()),
            "kind": action.kind,
            "name": self._clean(action.name),
            "risk": action.risk,
            "request": self._clean(action.request),
            "preview": self._clean(action.preview),
            "standing": self._clean(action.standing),
            "idempotency_key": action.idempotency_key,
            "repeatable": action.repeatable,
            "question": None if action.question is None else self._clean(action.question),
            "choices": self._clean(list(action.choices)),
        }

    def _clean(self, value: Any) -> Any:
        """Without the values of secrets, and without what jsonb cannot hold."""
        if isinstance(value, Mapping):
            value = dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return without_placeholders(storable(self.redactor.value(value)))

    def _landed(self, key: str) -> None:
        self._acting.discard(key)
        flying = self._flying.pop(key, None)
        if flying is not None:
            flying.set()

    async def _persist(self, write: Callable[[], Awaitable[Result]]) -> Result:
        """Repeat a call until the database answers; every one of them may come twice."""
        wait = _FIRST_RETRY_SECONDS
        while True:
            try:
                return await write()
            except StoreUnavailableError as error:
                log.warning(
                    "the ledger waits for the database",
                    extra={"action": "ledger", "task_id": self._fence.task_id, "reason": str(error)},
                )
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_RETRY_SECONDS)
