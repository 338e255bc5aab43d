"""Figures as a table and as JSON lines."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

OUT = Path(__file__).resolve().parent / "out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        peer: what it is compared with, measured in the same run.
        ratio: with a peer, how many times longer the peer takes; with a goal alone, goal divided by value.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    ratio: float | None = None
    goal: float | None = None


def against_goal(name: str, value: float, unit: str, goal: float) -> Figure:
    """A figure with a goal that it should stay below: a ratio above 1 is met with so much to spare."""
    return Figure(name=name, value=round(value, 3), unit=unit, ratio=round(goal / value, 2), goal=goal)


def against_peer(name: str, value: float, unit: str, peer: str, peer_value: float) -> Figure:
    """A figure with a peer: a ratio above 1 says how many times longer the peer takes."""
    return Figure(name=name, value=round(value, 3), unit=unit, peer=peer, ratio=round(peer_value / value, 1))


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent lie, interpolated."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def report(file: str, figures: Sequence[Figure]) -> None:
    """Print the table and write `benchmarks/out/<file>.jsonl`."""
    print(f"\n{'what':58} {'value':>12} {'goal':>8} {'ratio':>7}  peer")
    for figure in figures:
        print(
            f"{figure.name:58} {figure.value:>8g} {figure.unit:3} "
            f"{'' if figure.goal is None else f'{figure.goal:g}':>8} "
            f"{'' if figure.ratio is None else f'{figure.ratio:g}':>7}  {figure.peer or ''}"
        )
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{file}.jsonl").write_text("".join(_line(figure) + "\n" for figure in figures))


def _line(figure: Figure) -> str:
    """JSON knows no infinity: what took longer than anybody waited for is null."""
    known = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(figure).items()
    }
    return json.dumps(known, allow_nan=False)
