"""`make attack`: every attack, in every tier that this machine offers, as root and as an ordinary user.

Then with one layer off at a time, to show that the attacks bite. As root it starts itself again as an
ordinary user. Exit status 0 only if every attack was stopped, every layer that was taken off let its attacks
through, and no tier that the machine offers was left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pythonic_assistant.domain.errors import AssistantError
from tests.sandbox.suite import table, tiers
from tests.sandbox.suite.arena import arena
from tests.sandbox.suite.attack import Attack
from tests.sandbox.suite.attacks import BY_NAME, for_tier
from tests.sandbox.suite.layers_off import LAYERS, LayerOff, without
from tests.sandbox.suite.trial import Outcome, Trial

_AS_ORDINARY = Path(__file__).resolve().parents[1] / "as_ordinary_user.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One result, as it goes from the ordinary user's process to root's.

    Attributes:
        column: tier and user, or the layer that was off and user.
        row: the group.
        good: whether it came out as it should.
    """

    column: str
    row: str
    name: str
    good: bool
    note: str = ""


async def in_tier(tier: str, chosen: tuple[Attack, ...]) -> AsyncIterator[Outcome]:
    """Try attacks in a tier, one after the other."""
    async with tiers.OPENERS[tier]() as sandbox, arena(sandbox) as place:
        trial = await Trial.begin(place)
        for attack in chosen:
            yield await trial.run(attack)


async def with_layer_off(layer: LayerOff) -> AsyncIterator[Outcome]:
    """Try those attacks that a layer stops, in the best tier without it."""
    with without(layer):
        async with tiers.OPENERS["namespaces"]() as sandbox, arena(sandbox) as place:
            trial = await Trial.begin(place)
            for name in layer.bites:
                yield await trial.run(BY_NAME[name], layer.limits)


async def results() -> AsyncIterator[Line]:
    """Do everything that this user can."""
    who = tiers.user()
    for tier in tiers.OPENERS:
        column = f"{tier}, {who}"
        if reason := tiers.missing(tier):
            yield Line(column=column, row="not offered", name=tier, good=True, note=reason)
            continue
        try:
            async for outcome in in_tier(tier, for_tier(tier)):
                yield Line(
                    column=column,
                    row=outcome.group,
                    name=outcome.attack,
                    good=outcome.held,
                    note=outcome.trouble,
                )
        except AssistantError as error:
            yield Line(column=column, row="the tier", name=tier, good=False, note=f"skipped: {error}")
    for layer in LAYERS:
        column = f"one layer off, {who}"
        try:
            async for outcome in with_layer_off(layer):
                note = "" if outcome.through else f"it does not bite: {outcome.trouble or 'stopped'}"
                yield Line(
                    column=column,
                    row=f"without {layer.layer}",
                    name=outcome.attack,
                    good=outcome.through,
                    note=note,
                )
        except (AssistantError, RuntimeError) as error:
            yield Line(
                column=column, row=f"without {layer.layer}", name=layer.layer, good=False, note=str(error)
            )


async def _main(*, alone: bool) -> int:
    began = time.monotonic()
    lines: list[Line] = []
    async for line in results():
        if alone:
            print(json.dumps(asdict(line)), flush=True)
        else:
            table.tell(line.column, line.row, line.name, line.note, good=line.good)
        lines.append(line)
    if alone:
        return 0
    if os.geteuid() == 0:
        for line in _as_ordinary_user():
            table.tell(line.column, line.row, line.name, line.note, good=line.good)
            lines.append(line)
    else:
        print("Not started as root: what holds for root was not tried.")
    print(table.render([(line.column, line.row, line.good) for line in lines if line.row != "not offered"]))
    for line in lines:
        if line.row == "not offered":
            print(f"{line.column}: this machine does not offer it ({line.note})")
    bad = [line for line in lines if not line.good]
    print(f"\n{len(lines) - len(bad)} of {len(lines)} as it should be, {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


def _as_ordinary_user() -> list[Line]:
    command = [sys.executable, str(_AS_ORDINARY), "-m", "tests.sandbox.suite.run_attacks", "--alone"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=900, check=False)
    lines = [Line(**json.loads(text)) for text in done.stdout.splitlines()]
    if done.returncode != 0 or not lines:
        ended = f"its process ended with {done.returncode} after {len(lines)} results"
        lines.append(Line(column="ordinary", row="the run", name="ordinary user", good=False, note=ended))
    return lines


def main() -> None:
    """Run, print, and leave with the status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", action="store_true", help="as this user only, results as JSON lines")
    sys.exit(asyncio.run(_main(alone=parser.parse_args().alone)))


if __name__ == "__main__":
    main()
