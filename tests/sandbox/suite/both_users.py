"""Runs a suite as this user and, when this is root, again as an ordinary user; prints one table."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

_AS_ORDINARY = Path(__file__).resolve().parents[1] / "as_ordinary_user.py"
_NOT_OFFERED = "not offered"
_TOGETHER, _SECONDS = "together", "seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One result, as it goes from the ordinary user's process to root's.

    Attributes:
        column: what was tried, and as which user.
        row: the group.
        good: whether it came out as it should.
        seconds: what it took.
    """

    column: str
    row: str
    name: str
    good: bool
    note: str = ""
    seconds: float = 0.0

    @classmethod
    def not_offered(cls, column: str, reason: str) -> Self:
        """The machine does not offer a tier: told, and no failure."""
        return cls(column=column, row=_NOT_OFFERED, name=_NOT_OFFERED, good=True, note=reason)


def main(results: Callable[[], AsyncIterator[Line]], module: str, description: str | None) -> int:
    """Run, print, and return the exit status.

    Args:
        results: does everything that one user can.
        module: that calls this, to be started again.
        description: for `--help`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--alone", action="store_true", help="as this user only, results as JSON lines")
    if parser.parse_args().alone:
        asyncio.run(_print_lines(results))
        return 0
    began = time.monotonic()
    if os.geteuid() == 0:
        # Started again as root, too: there is a tier that needs an interpreter that everybody can reach.
        # With a core for each, both at once: no user meets another's sessions, and most of it is waiting.
        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as users:
            root = users.submit(_again, module, "root", "--as-root")
            ordinary = users.submit(_again, module, "ordinary")
            lines = root.result() + ordinary.result()
    else:
        lines = asyncio.run(_told(results))
        print("Not started as root: what holds for root was not tried.")
    print(render([line for line in lines if line.row != _NOT_OFFERED]))
    for line in lines:
        if line.row == _NOT_OFFERED:
            print(f"{line.column}: this machine does not offer it ({line.note})")
    tried = [line for line in lines if line.row != _NOT_OFFERED]
    good = sum(line.good for line in tried)
    print(f"\n{good} of {len(tried)} as it should be, {time.monotonic() - began:.0f} s")
    return 0 if good == len(tried) > 0 else 1


async def _print_lines(results: Callable[[], AsyncIterator[Line]]) -> None:
    async for line in results():
        print(json.dumps(asdict(line)), flush=True)


async def _told(results: Callable[[], AsyncIterator[Line]]) -> list[Line]:
    lines: list[Line] = []
    async for line in results():
        _tell(line)
        lines.append(line)
    return lines


def _again(module: str, user: str, *options: str) -> list[Line]:
    command = [sys.executable, str(_AS_ORDINARY), *options, "-m", module, "--alone"]
    lines: list[Line] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        for text in running.stdout or ():
            lines.append(Line(**json.loads(text)))
            _tell(lines[-1])
    if running.returncode != 0 or not lines:
        ended = f"its process ended with {running.returncode} after {len(lines)} results"
        lines.append(Line(column=user, row="the run", name=user, good=False, note=ended))
        _tell(lines[-1])
    return lines


def _tell(line: Line) -> None:
    """Print what is not as it should be at once, and on a terminal a dot for everything else."""
    if not line.good:
        print(f"FAILED  {line.column} | {line.row} | {line.name}: {line.note}", flush=True)
    elif sys.stdout.isatty():
        print(".", end="", flush=True)


def render(lines: list[Line]) -> str:
    """Return a table of how many were good and how many there were, by row and column, and of seconds."""
    columns = list(dict.fromkeys(line.column for line in lines))
    rows = list(dict.fromkeys(line.row for line in lines))
    width = max((len(row) for row in (*rows, _TOGETHER)), default=0)
    shown = ["", " " * width + "".join(f"  {column:>24}" for column in columns)]
    for row in (*rows, _TOGETHER):
        text = f"{row:{width}}"
        for column in columns:
            found = [line.good for line in lines if line.column == column and row in (line.row, _TOGETHER)]
            text += f"  {f'{sum(found)}/{len(found)}' if found else '-':>24}"
        shown.append(text)
    spent = [sum(line.seconds for line in lines if line.column == column) for column in columns]
    shown.append(f"{_SECONDS:{width}}" + "".join(f"  {seconds:>24.0f}" for seconds in spent))
    return "\n".join(shown)
