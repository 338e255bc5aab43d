"""How quickly a sandbox session is there, and how quickly a trivial step runs.

`make bench-sandbox`, or `python -m benchmarks.bench_sandbox [sessions]`. The peer is a fresh Python with the
same imports: what every execution would cost without the zygote.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

from benchmarks.report import Figure, against_goal, against_peer, percentile, report
from pythonic_assistant.adapters.sandbox import zygote_sandbox
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox

IMPORTS = "import numpy, pandas, matplotlib.pyplot"
STEPS_PER_SESSION = 20
AT_ONCE = 16


def _milliseconds(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _fresh_interpreter() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return _milliseconds(began)


async def _sessions(sandbox: NamespaceSandbox, count: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"open": [], "first step": [], "step": [], "close": []}
    for _ in range(count):
        began = time.perf_counter()
        session = await sandbox.open()
        found["open"].append(_milliseconds(began))
        await session.execute("import pandas", timeout=10)
        found["first step"].append(_milliseconds(began))
        for _ in range(STEPS_PER_SESSION):
            step = time.perf_counter()
            await session.execute("1", timeout=10)
            found["step"].append(_milliseconds(step))
        ending = time.perf_counter()
        await session.close()
        found["close"].append(_milliseconds(ending))
    return found


async def _storm(sandbox: NamespaceSandbox) -> float:
    async def one() -> None:
        async with await sandbox.open() as session:
            await session.execute("1", timeout=30)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one())
    return _milliseconds(began)


async def measure(count: int) -> list[Figure]:
    """Return all figures, from `count` sessions one after the other."""
    began = time.perf_counter()
    async with zygote_sandbox(probe=False) as sandbox:
        start = _milliseconds(began)
        await _sessions(sandbox, 3)
        times = await _sessions(sandbox, count)
        storm = await _storm(sandbox)
    python = statistics.median(_fresh_interpreter() for _ in range(3))
    ready = statistics.median(times["open"])
    return [
        Figure(name="zygote start", value=round(start, 1), unit="ms"),
        against_goal("session ready p50", ready, "ms", 15),
        against_goal("session ready p95", percentile(times["open"], 95), "ms", 40),
        against_peer("session ready", ready, "ms", f"python -c '{IMPORTS}'", python),
        Figure(
            name="open and import pandas p50",
            value=round(statistics.median(times["first step"]), 2),
            unit="ms",
        ),
        against_goal("trivial step p50", statistics.median(times["step"]), "ms", 0.3),
        Figure(name="close p50", value=round(statistics.median(times["close"]), 2), unit="ms"),
        Figure(name=f"{AT_ONCE} sessions at once", value=round(storm, 1), unit="ms"),
    ]


def main() -> None:
    """Measure, print, write."""
    report("sandbox", asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 40)))


if __name__ == "__main__":
    main()
