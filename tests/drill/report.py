"""The table of a drill, and its sums."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.drill.record import Book, Kill

BOUNDS = {"direct": 10.0, "api": 20.0}
"""Seconds from a kill until the task is claimed again; over the API the lease of 15 s and 5 more."""


def table(book: Book) -> str:
    """Kill point, who, how often, what happened."""
    rows: dict[tuple[int, str, str, str], list[Kill]] = defaultdict(list)
    for kill in book.kills:
        mission = kill.mission
        rows[mission.point.order, mission.place, mission.moment, mission.who].append(kill)
    lines = [
        "| point | moment | killed | kills | there | what happened |",
        "|---|---|---|---:|---:|---|",
    ]
    for (_, place, moment, who), kills in sorted(rows.items()):
        then = Counter(kill.then for kill in kills)
        told = ", ".join(f"{text} {times}" for text, times in then.most_common())
        there = sum(bool(kill.proof) for kill in kills)
        lines.append(f"| {place} | {moment} | {who} | {len(kills)} | {there} | {told} |")
    return "\n".join(lines)


def restarts(book: Book) -> dict[tuple[str, str], list[float]]:
    """Seconds by way and who was killed; where a service was away meanwhile, under that name."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for kill in book.kills:
        if kill.seconds is not None:
            who = kill.mission.who + (" while a service was away" if kill.disturbed else "")
            found[kill.way, who].append(kill.seconds)
    return found


def sums(book: Book, wrong: Sequence[str], seconds: float) -> str:
    """What the drill has come to, in a few lines."""
    who = Counter(kill.mission.who for kill in book.kills)
    lines = [
        f"{len(book.kills)} kills ({', '.join(f'{name} {times}' for name, times in who.most_common())}) of "
        f"{len(book.tasks)} tasks in {seconds:.0f} s; {len(wrong)} faults.",
        "People said: "
        + (", ".join(f"{word} {times}" for word, times in book.answered.items()) or "nothing")
        + ".",
        "",
        "| way | killed | restarts | p50 s | p95 s | worst s |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for (way, name), values in sorted(restarts(book).items()):
        ordered = sorted(values)
        p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
        lines.append(
            f"| {way} | {name} | {len(values)} | {statistics.median(values):.1f} | {p95:.1f} "
            f"| {ordered[-1]:.1f} |"
        )
    return "\n".join(lines)


def problems(book: Book, *, bound_factor: float = 1.0) -> list[str]:
    """What is wrong with the drill itself: points not reached, kills that are not proven, slow restarts."""
    found = [f"{one.who} at {one.place} {one.moment}: never reached" for one in book.missed]
    if book.stuck:
        found.append(f"{book.stuck} tasks did not end in time")
    proven = {kill.mission for kill in book.kills if kill.proof}
    found += [
        f"{mission.who} at {mission.place} {mission.moment}: nothing shows that a kill fell there"
        for mission in {kill.mission for kill in book.kills} - proven
    ]
    for kill in book.kills:
        mission = kill.mission
        name = f"{mission.who} at {mission.place} {mission.moment}, task {kill.task}"
        bound = BOUNDS[kill.way] * bound_factor
        if kill.seconds is not None and not kill.disturbed and kill.seconds > bound:
            found.append(f"{name}: {kill.seconds:.1f} s until it went on, more than {bound:g} s")
    return found
