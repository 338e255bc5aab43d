"""What replies cost, and how a worker comes to know prices."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.errors import StoreUnavailableError
from pythonic_assistant.domain.price import Price, priced
from worker.pricing import Pricing

SOL = Price(
    input_per_million=2,
    cached_input_per_million=0.1,
    cache_write_per_million=2.5,
    output_per_million=10,
    long_from_tokens=272_000,
    long_input_factor=2,
    long_output_factor=1.5,
)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(turns=1, input_tokens=1_000_000 // 4, output_tokens=100_000), 0.5 + 1.0),
        (Usage(turns=1, input_tokens=100_000, cached_tokens=80_000), 0.04 + 0.008),
        (Usage(turns=1, input_tokens=100_000, cached_tokens=80_000, written_tokens=20_000), 0.008 + 0.05),
        (Usage(turns=1, input_tokens=272_000), 0.544),
        (Usage(turns=1, input_tokens=300_000, output_tokens=10_000), 1.2 + 0.15),
        (Usage(turns=2, input_tokens=300_000, output_tokens=10_000), 0.6 + 0.1),
        (Usage(turns=1, input_tokens=10, cached_tokens=10_000), 0.000001),
        (Usage(turns=1), 0.0),
    ],
)
def test_a_reply_costs_what_its_tokens_cost(usage: Usage, cost: float) -> None:
    assert priced(usage, SOL).cost == pytest.approx(cost)


def test_an_unknown_price_is_no_price_of_zero_and_what_the_server_told_counts() -> None:
    used = Usage(turns=1, input_tokens=1000)
    assert priced(used, None).cost is None
    assert priced(Usage(turns=1, input_tokens=1000, cost=0.0), SOL).cost == 0.0
    assert priced(used, Price(input_per_million=3, output_per_million=5)).cost == pytest.approx(0.003)


class Written:
    """A price list that can be away."""

    def __init__(self) -> None:
        self.rows: Mapping[str, Price] | None = None
        self.asked = 0

    async def current(self) -> Mapping[str, Price]:
        self.asked += 1
        if self.rows is None:
            raise StoreUnavailableError("away")
        return self.rows


async def test_prices_are_read_once_a_minute_and_outlive_a_database_that_is_away() -> None:
    now = [0.0]
    written = Written()
    pricing = Pricing(written, lambda: now[0])
    assert await pricing.of("sol") is None
    written.rows = {"sol": SOL}
    assert await pricing.of("sol") is SOL, "what could not be read is read the next time"
    assert await pricing.of("sol-2026-09-29") is SOL
    assert await pricing.of("sol-mini") is None
    assert written.asked == 2
    now[0], written.rows = 61.0, None
    assert await pricing.of("sol") is SOL
    assert written.asked == 3
