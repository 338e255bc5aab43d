"""`make attack`: every attack, in every tier that this machine offers, as root and as an ordinary user.

Then with one layer off at a time, to show that the attacks bite. As root it starts itself again as an
ordinary user. Exit status 0 only if every attack was stopped, every layer that was taken off let its attacks
through, and no tier that the machine offers was left out.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from pythonic_assistant.adapters.sandbox import zygote_sandbox
from pythonic_assistant.domain.errors import AssistantError
from tests.sandbox.suite import both_users, tiers
from tests.sandbox.suite.arena import arena
from tests.sandbox.suite.attack import BOXED, Attack
from tests.sandbox.suite.attacks import BY_NAME, for_one_session, for_tier
from tests.sandbox.suite.both_users import Line
from tests.sandbox.suite.layers_off import LAYERS, LayerOff, without
from tests.sandbox.suite.trial import Outcome, Trial
from tests.sandbox.suite.way_out import way_out


async def in_tier(tier: str, chosen: tuple[Attack, ...]) -> AsyncIterator[Outcome]:
    """Try attacks in a tier, one after the other; where sessions are dear, those share one that can."""
    shared = tuple(attack for attack in for_one_session(tier) if attack in chosen and tier in tiers.DEAR)
    async with AsyncExitStack() as stack:
        way = await stack.enter_async_context(way_out()) if tier in BOXED else None
        sandbox = await stack.enter_async_context(tiers.OPENERS[tier]())
        if way is not None:
            await way.ensure_leads_out(sandbox)
        trial = await Trial.begin(await stack.enter_async_context(arena(sandbox, way)))
        for attack in chosen:
            if attack not in shared:
                yield await trial.run(attack)
        async for outcome in trial.run_together(shared):
            yield outcome


async def with_layer_off(layer: LayerOff) -> AsyncIterator[Outcome]:
    """Try those attacks that a layer stops, in the best tier without it."""
    with without(layer):
        # Not chosen: its self-test would refuse it.
        async with zygote_sandbox(probe=False) as sandbox, arena(sandbox) as place:
            trial = await Trial.begin(place)
            for name in layer.bites:
                yield await trial.run(BY_NAME[name])


async def results() -> AsyncIterator[Line]:
    """Do everything that this user can."""
    for tier in tiers.OPENERS:
        async for line in _tier(tier, f"{tier}, {tiers.user()}"):
            yield line
    for layer in LAYERS:
        async for line in _layer(layer, f"one layer off, {tiers.user()}"):
            yield line


async def _tier(tier: str, column: str) -> AsyncIterator[Line]:
    if reason := tiers.missing(tier):
        yield Line.not_offered(column, reason)
        return
    try:
        async for outcome in in_tier(tier, for_tier(tier)):
            yield Line(
                column=column,
                row=outcome.group,
                name=outcome.attack,
                good=outcome.held,
                note=outcome.trouble,
                seconds=outcome.seconds,
            )
    except (AssistantError, RuntimeError, TimeoutError) as error:
        yield Line(column=column, row="the tier", name=tier, good=False, note=f"skipped: {error!r}")


async def _layer(layer: LayerOff, column: str) -> AsyncIterator[Line]:
    row = f"without {layer.layer}"
    try:
        async for outcome in with_layer_off(layer):
            note = "" if outcome.through else f"it does not bite: {outcome.trouble or 'stopped'}"
            yield Line(
                column=column,
                row=row,
                name=outcome.attack,
                good=outcome.through,
                note=note,
                seconds=outcome.seconds,
            )
    except (AssistantError, RuntimeError, TimeoutError) as error:
        yield Line(column=column, row=row, name=layer.layer, good=False, note=f"not tried: {error!r}")


if __name__ == "__main__":
    sys.exit(both_users.main(results, "tests.sandbox.suite.run_attacks", __doc__))
