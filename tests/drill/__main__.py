"""`python -m tests.drill --kills 1000`: the long form; prints the table, ends with 1 if anything is wrong."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time

from tests.drill.drill import prepared
from tests.drill.planning import long, short
from tests.drill.report import problems, sums, table

DIRECT, API = 3, 1


async def run(kills: int, seed: int) -> int:
    """Make so many kills; 0 stands for those of `make test`."""
    began = time.monotonic()
    rounds = long(kills, random.Random(seed)) if kills else [short()]
    async with prepared(direct=DIRECT, api=API if kills else 0, seed=seed, loud=True) as drill:
        for workers, services in rounds:
            await drill.make(workers)
            await drill.make(services)
        wrong = await drill.faults()
        book = drill.field.book
    doubtful = problems(book)
    print(table(book), sums(book, wrong, time.monotonic() - began), sep="\n\n")
    for sentence in (*wrong, *doubtful):
        print(f"WRONG: {sentence}")
    return 1 if wrong or doubtful else 0


def main() -> int:
    """Read the arguments, and drill."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many; 0: those of `make test`")
    parser.add_argument("--seed", type=int, default=1, help="of what is left to chance")
    arguments = parser.parse_args()
    return asyncio.run(run(arguments.kills, arguments.seed))


if __name__ == "__main__":
    sys.exit(main())
