"""A worker process of `bench_queue`.

`python -m benchmarks.queue_worker CONTESTANT URL MODE`, where MODE is one of

tell   prints the time of the monotonic clock at which each task reached its handler
count  prints {"first", "last", "tasks"} each time it has had nothing to do for a while
rescue tells, and gives tasks of dead workers to others
hang   tells, and never ends a task
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from typing import Any

from benchmarks.queue_contestant import Contestant
from benchmarks.queue_ours import Ours
from benchmarks.queue_peers import PgQueuer, Procrastinate

CONTESTANTS: dict[str, type[Contestant]] = {kind.name: kind for kind in (Ours, PgQueuer, Procrastinate)}
QUIET_SECONDS = 0.7


class Watch:
    """The handler, and what it has seen."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._times: list[float] = []

    async def handle(self) -> None:
        """Be called for each task."""
        now = time.monotonic()
        if self._mode == "count":
            self._times.append(now)
            return
        say(at=now)
        if self._mode == "hang":
            await asyncio.Event().wait()

    async def sum_up(self) -> None:
        """Print what was counted, whenever it is over."""
        while True:
            await asyncio.sleep(QUIET_SECONDS / 4)
            if self._times and time.monotonic() - self._times[-1] > QUIET_SECONDS:
                say(first=self._times[0], last=self._times[-1], tasks=len(self._times))
                self._times.clear()


def say(**words: Any) -> None:
    """Print one line for the parent."""
    print(json.dumps(words), flush=True)


async def main(name: str, url: str, mode: str) -> None:
    """Work until killed."""
    contestant = CONTESTANTS[name](url)
    await contestant.open()
    if mode == "rescue":
        contestant.rescue()
    watch = Watch(mode)
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.sum_up())
        group.create_task(contestant.work(watch.handle))
        say(started=True)


if __name__ == "__main__":
    name, url, mode = sys.argv[1:]
    if name == "pgqueuer":
        uvloop: Any = importlib.import_module("uvloop")  # as its own command does; it comes with the peers
        uvloop.run(main(name, url, mode))
    else:
        asyncio.run(main(name, url, mode))
