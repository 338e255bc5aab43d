"""What a model's replies cost: the only place where tokens become money."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pythonic_assistant.domain.budget import Usage

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Of one model, in US dollars for a million tokens.

    Attributes:
        cached_input_per_million: of input that the server still had; None means as other input.
        cache_write_per_million: of input that the server keeps for later; None means as other input.
        long_from_tokens: a request with more input than this costs by the two factors; None: none does.
    """

    input_per_million: float
    output_per_million: float
    cached_input_per_million: float | None = None
    cache_write_per_million: float | None = None
    long_from_tokens: int | None = None
    long_input_factor: float = 1.0
    long_output_factor: float = 1.0


def priced(usage: Usage, price: Price | None) -> Usage:
    """Return the usage of one reply with its cost; as it is where that was told, or no price is known."""
    if usage.cost is not None or price is None:
        return usage
    cached = min(usage.cached_tokens, usage.input_tokens)
    written = min(usage.written_tokens, usage.input_tokens - cached)
    plain = price.input_per_million
    reading = plain if price.cached_input_per_million is None else price.cached_input_per_million
    writing = plain if price.cache_write_per_million is None else price.cache_write_per_million
    given = (usage.input_tokens - cached - written) * plain + cached * reading + written * writing
    got = usage.output_tokens * price.output_per_million
    # A reply that had to be asked for again was two requests.
    if price.long_from_tokens is not None and usage.input_tokens > price.long_from_tokens * max(
        usage.turns, 1
    ):
        given, got = given * price.long_input_factor, got * price.long_output_factor
    return replace(usage, cost=(given + got) / _MILLION)
