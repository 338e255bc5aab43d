"""What one run may spend. Every limit is finite; a limit is checked before the spending."""

from __future__ import annotations

from dataclasses import dataclass

from pythonic_assistant.domain.errors import BudgetExceededError


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of one run.

    Attributes:
        turns: model replies, of every purpose.
        tokens: input and output tokens together, as the model's server counts them.
        cost: US dollars; kept only where the model's price is known.
        seconds: wall time of the run, model and code included.
        executions_per_step: how often a step's code is run before the step has failed.
        verification_rounds: how often the answer is checked before it stays unproven.
        execution_seconds: wall time of one execution of generated code.
    """

    turns: int = 40
    tokens: int = 400_000
    cost: float = 5.0
    seconds: float = 900.0
    executions_per_step: int = 5
    verification_rounds: int = 3
    execution_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run has spent so far.

    Attributes:
        input_tokens: those from the cache and those kept in it included.
        cost: US dollars, None where the price is unknown.
        cached_tokens: of `input_tokens`, those that the server still had.
        written_tokens: of `input_tokens`, those that the server was paid to keep.
    """

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    cached_tokens: int = 0
    written_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        costs = [c for c in (self.cost, other.cost) if c is not None]
        return Usage(
            turns=self.turns + other.turns,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=sum(costs) if costs else None,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            written_tokens=self.written_tokens + other.written_tokens,
        )


def ensure_turn(budget: Budget, usage: Usage, elapsed_seconds: float) -> None:
    """Refuse the next model call when a limit is spent.

    Raises:
        BudgetExceededError: with the name and the value of the limit.
    """
    if usage.turns >= budget.turns:
        raise BudgetExceededError(
            f"The limit of {budget.turns} model replies for one task is spent.", limit="turns"
        )
    if usage.input_tokens + usage.output_tokens >= budget.tokens:
        raise BudgetExceededError(
            f"The limit of {budget.tokens:,} tokens for one task is spent.", limit="tokens"
        )
    if usage.cost is not None and usage.cost >= budget.cost:
        raise BudgetExceededError(f"The limit of ${budget.cost:,.2f} for one task is spent.", limit="cost")
    if elapsed_seconds >= budget.seconds:
        raise BudgetExceededError(
            f"The limit of {budget.seconds:g} seconds for one task is spent.", limit="seconds"
        )
