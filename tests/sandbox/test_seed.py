"""Random numbers of a session: fresh by default, repeatable on request."""

from __future__ import annotations

import asyncio
import json

import pytest

from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.domain.errors import InvalidInputError

pytestmark = pytest.mark.asyncio(loop_scope="session")

DRAWS = """
import json, random
import numpy as np, pandas as pd
print(json.dumps([
    random.random(),
    float(np.random.random()),
    float(np.random.default_rng().random()),
    float(np.random.default_rng().random()),
    pd.Series(range(1000)).sample(3).tolist(),
]))
"""


async def _draw(sandbox: NamespaceSandbox, seed: int | None) -> list[object]:
    async with await sandbox.open(seed=seed) as session:
        execution = await session.execute(DRAWS, timeout=10)
    assert execution.outcome == "ok", execution.error
    values = json.loads(execution.stdout)
    assert len(values) == 5
    return list(values)


async def test_the_same_seed_gives_the_same_numbers(sandbox: NamespaceSandbox) -> None:
    first, again, other, most = await asyncio.gather(*(_draw(sandbox, n) for n in (7, 7, 8, 2**63 - 1)))
    assert first == again
    assert all(a != b != c for a, b, c in zip(first, other, most, strict=True))
    assert first[2] != first[3]  # two generators of one session are not the same


async def test_without_a_seed_every_session_draws_its_own(sandbox: NamespaceSandbox) -> None:
    first, other = await asyncio.gather(_draw(sandbox, None), _draw(sandbox, None))
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**63])
async def test_an_impossible_seed_is_refused(sandbox: NamespaceSandbox, seed: int) -> None:
    with pytest.raises(InvalidInputError, match="seed"):
        await sandbox.open(seed=seed)
