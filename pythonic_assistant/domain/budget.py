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
        seconds: wall time of the run, model and code included.
        executions_per_step: how often a step's code is run before the step has failed.
        verification_rounds: how often the answer is checked before it stays unproven.
        execution_seconds: wall time of one execution of generated code.
    """

    turns: int = 40
    tokens: int = 400_000
    seconds: float = 900.0
    executions_per_step: int = 5
    verification_rounds: int = 3
    execution_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run has spent so far. `cost` is in US dollars, None where the price is unknown."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None

    def __add__(self, other: Usage) -> Usage:
        costs = [c for c in (self.cost, other.cost) if c is not None]
        return Usage(
            turns=self.turns + other.turns,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=sum(costs) if costs else None,
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
    if elapsed_seconds >= budget.seconds:
        raise BudgetExceededError(
            f"The limit of {budget.seconds:g} seconds for one task is spent.", limit="seconds"
        )
