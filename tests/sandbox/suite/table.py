"""Results for a person to read."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def tell(column: str, row: str, name: str, note: str, *, good: bool) -> None:
    """Print a result that is not as it should be at once, and a dot for every other one on a terminal."""
    if not good:
        print(f"FAILED  {column} | {row} | {name}: {note}", flush=True)
    elif sys.stdout.isatty():
        print(".", end="", flush=True)


def render(cells: Sequence[tuple[str, str, bool]]) -> str:
    """Return a table of how many were good and how many there were, by row and column.

    Args:
        cells: column, row, and whether it was good, once for each result.
    """
    columns = list(dict.fromkeys(column for column, _, _ in cells))
    rows = list(dict.fromkeys(row for _, row, _ in cells))
    width = max((len(row) for row in (*rows, "together")), default=0)
    lines = ["", " " * width + "".join(f"  {column:>24}" for column in columns)]
    for row in (*rows, "together"):
        line = f"{row:{width}}"
        for column in columns:
            found = [good for c, r, good in cells if c == column and row in (r, "together")]
            line += f"  {f'{sum(found)}/{len(found)}' if found else '-':>24}"
        lines.append(line)
    return "\n".join(lines)
