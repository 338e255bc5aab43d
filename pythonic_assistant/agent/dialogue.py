"""The conversation with the model: append-only items, and every question paid from the budget.

An earlier attempt may have had a part of the conversation. Then the run takes the same way through it again:
what was said and replied is taken from the record, and no model is asked, until the record ends.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pythonic_assistant.agent.redacting import clean
from pythonic_assistant.domain.budget import Budget, Usage, ensure_turn
from pythonic_assistant.domain.conversation import CodeResult, Item, Recorded, Reply
from pythonic_assistant.domain.errors import BudgetExceededError, ModelReplyError
from pythonic_assistant.domain.event import Event, ItemAdded, ModelCalled, ModelReplied, Noted, Purpose
from pythonic_assistant.domain.price import Price, priced
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.ports import CodeWanted, JsonWanted, Model, ModelReply, ModelRequest, TextWanted

Emit = Callable[[Event], None]


@dataclass(slots=True, kw_only=True)
class Dialogue:
    """One run's conversation.

    Attributes:
        instructions: the stable prefix.
        started: `time.monotonic()` of the run's beginning.
        redactor: of what the model must not see.
        usage: what has been spent so far, by earlier attempts too.
        price: of the model, where it is known.
        recorded: what an earlier attempt added and this one has not come to yet.
    """

    model: Model
    instructions: str
    budget: Budget
    emit: Emit
    started: float
    cache_key: str = ""
    redactor: Redactor = field(default_factory=lambda: Redactor({}))
    items: list[Item] = field(default_factory=list[Item])
    usage: Usage = field(default_factory=Usage)
    price: Price | None = None
    recorded: deque[Recorded] = field(default_factory=deque[Recorded])

    @property
    def live(self) -> bool:
        """Whether nothing of an earlier attempt's record is left."""
        return not self.recorded

    @property
    def seconds_left(self) -> float:
        """Wall time that the run may still take; not below zero."""
        return max(0.0, self.budget.seconds - (time.monotonic() - self.started))

    def add(self, item: Item) -> None:
        """Append to what the model sees from now on; where it was said before, in the words of then."""
        before = self._before(item.kind)
        if before is not None:
            self.items.append(before.item)
        else:
            self._keep(clean(self.redactor, item))

    def result_before(self) -> CodeResult | None:
        """What came of the last reply's code in an earlier attempt, or None when it has to be run."""
        ahead = self.recorded[0].item if self.recorded else None
        return ahead if isinstance(ahead, CodeResult) else None

    def forget(self) -> None:
        """Take another way than the record from here on."""
        self.recorded.clear()

    async def ask(
        self,
        purpose: Purpose,
        wanted: TextWanted | CodeWanted | JsonWanted,
        *,
        step_id: str | None = None,
    ) -> ModelReply:
        """Ask the model about all items so far, and append its reply.

        Raises:
            BudgetExceededError: before the call when a limit is spent, or when the time runs out in it.
            ModelUnavailableError, ModelRefusedError, ModelReplyError: as `ports.Model.respond`.
        """
        about = f"{purpose} {step_id or ''}".strip()
        before = self._before("reply", about)
        if before is not None and isinstance(before.item, Reply):
            self.items.append(before.item)
            return ModelReply(reply=before.item, data=before.data, usage=Usage())
        ensure_turn(self.budget, self.usage, time.monotonic() - self.started)
        request = ModelRequest(
            purpose=purpose,
            instructions=self.instructions,
            items=tuple(self.items),
            wanted=wanted,
            cache_key=self.cache_key,
        )
        self.emit(ModelCalled(purpose=purpose, step_id=step_id))
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.seconds_left):
                answer = await self.model.respond(request)
        except TimeoutError as error:
            raise BudgetExceededError(
                f"The limit of {self.budget.seconds:g} seconds for one task ran out with the model's reply.",
                limit="seconds",
            ) from error
        except ModelReplyError as error:
            if error.usage is not None:  # paid for, though of no use
                self._count(priced(error.usage, self.price), purpose, step_id, time.monotonic() - began)
            raise
        used = priced(answer.usage, self.price)
        # First of all: a reply that is kept is never asked for again.
        self._keep(replace(answer.reply, about=about), answer.data, used)
        self._count(used, purpose, step_id, time.monotonic() - began)
        for note in answer.notes:
            self.emit(Noted(text=note))
        return answer

    def _count(self, used: Usage, purpose: Purpose, step_id: str | None, seconds: float) -> None:
        self.usage += used
        self.emit(ModelReplied(purpose=purpose, seconds=seconds, usage=used, step_id=step_id))

    def _before(self, kind: str, about: str | None = None) -> Recorded | None:
        """The next recorded item; when it is of another kind, the record is of another way and forgotten."""
        if not self.recorded:
            return None
        item = self.recorded[0].item
        if item.kind != kind or (about is not None and isinstance(item, Reply) and item.about != about):
            self.forget()
            return None
        return self.recorded.popleft()

    def _keep(self, item: Item, data: Mapping[str, Any] | None = None, usage: Usage | None = None) -> None:
        self.emit(ItemAdded(position=len(self.items), item=item, data=data, usage=usage))
        self.items.append(item)
