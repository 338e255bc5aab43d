"""The conversation with the model: append-only items, and every question paid from the budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pythonic_assistant.agent.redacting import clean
from pythonic_assistant.domain.budget import Budget, Usage, ensure_turn
from pythonic_assistant.domain.conversation import Item
from pythonic_assistant.domain.errors import BudgetExceededError, ModelReplyError
from pythonic_assistant.domain.event import Event, ModelCalled, ModelReplied, Noted, Purpose
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
        usage: what has been spent so far.
        spent: what earlier attempts have spent of the budget.
        price: of the model, where it is known.
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
    spent: Usage = field(default_factory=Usage)
    price: Price | None = None

    @property
    def seconds_left(self) -> float:
        """Wall time that the run may still take; not below zero."""
        return max(0.0, self.budget.seconds - (time.monotonic() - self.started))

    def add(self, item: Item) -> None:
        """Append to what the model sees from now on."""
        self.items.append(clean(self.redactor, item))

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
        ensure_turn(self.budget, self.spent + self.usage, time.monotonic() - self.started)
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
                self._count(error.usage, purpose, step_id, time.monotonic() - began)
            raise
        self.items.append(answer.reply)
        self._count(answer.usage, purpose, step_id, time.monotonic() - began)
        for note in answer.notes:
            self.emit(Noted(text=note))
        return answer

    def _count(self, usage: Usage, purpose: Purpose, step_id: str | None, seconds: float) -> None:
        used = priced(usage, self.price)
        self.usage += used
        self.emit(ModelReplied(purpose=purpose, seconds=seconds, usage=used, step_id=step_id))
