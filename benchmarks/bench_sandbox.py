"""How quickly a sandbox session is there, and how quickly a trivial step runs.

`make bench-sandbox`, or `python -m benchmarks.bench_sandbox [sessions]`. The peers, measured in the same run,
are a fresh Python with the same imports, which is what every execution would cost without the zygote, and a
Jupyter kernel, in which most assistants run their code.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time

from benchmarks.report import Figure, against_goal, against_peer, percentile, report
from benchmarks.sandbox_ends import after_kill, descendants, mebibytes, private_bytes
from benchmarks.sandbox_peers import IMPORTS, fresh_interpreter, jupyter_kernel
from pythonic_assistant.adapters.sandbox import zygote_sandbox
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox

STEPS_PER_SESSION = 20
AT_ONCE = 16
STORMS = 5
KILLS = 10
SESSIONS_PER_KILL = 4


def _milliseconds(began: float) -> float:
    return (time.perf_counter() - began) * 1000


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


async def _idle(sandbox: NamespaceSandbox) -> tuple[float, float]:
    """Return the private MiB of a session that has only been opened, and of one that has used pandas."""
    before = set(descendants(os.getpid()))
    async with await sandbox.open() as session:
        await session.execute("1", timeout=10)
        processes = sorted(set(descendants(os.getpid())) - before)
        idle = private_bytes(processes)
        await session.execute("import pandas as pd; t = pd.DataFrame({'a': [1, 2]}).describe()", timeout=20)
        return mebibytes(idle), mebibytes(private_bytes(processes))


async def measure(count: int) -> list[Figure]:
    """Return all figures, from `count` sessions one after the other."""
    began = time.perf_counter()
    async with zygote_sandbox(probe=False) as sandbox:
        start = _milliseconds(began)
        await _sessions(sandbox, 3)
        times = await _sessions(sandbox, count)
        storm = statistics.median([await _storm(sandbox) for _ in range(STORMS)])
        idle, used = await _idle(sandbox)
    python = statistics.median(fresh_interpreter() for _ in range(3))
    kernels = [await jupyter_kernel() for _ in range(3)]
    kernel = statistics.median(ready for ready, _ in kernels)
    cell = statistics.median(trivial for _, trivial in kernels)
    kills = [await asyncio.to_thread(after_kill, SESSIONS_PER_KILL) for _ in range(KILLS)]
    ready = statistics.median(times["open"])
    imported = statistics.median(times["first step"])
    step = statistics.median(times["step"])
    return [
        Figure(name="zygote start", value=round(start, 1), unit="ms"),
        against_goal("session ready p50", ready, "ms", 15),
        against_goal("session ready p95", percentile(times["open"], 95), "ms", 40),
        against_peer("session ready", ready, "ms", f"python -c '{IMPORTS}'", python),
        against_peer("open and import pandas p50", imported, "ms", "jupyter kernel, same imports", kernel),
        against_goal(
            "open and import pandas, a thirtieth of the kernel", imported, "ms", round(kernel / 30, 2)
        ),
        against_goal("trivial step p50", step, "ms", 0.3),
        against_peer("trivial step", step, "ms", "trivial cell of a jupyter kernel", cell),
        Figure(name="close p50", value=round(statistics.median(times["close"]), 2), unit="ms"),
        against_goal(f"{AT_ONCE} sessions at once", storm, "ms", 350),
        against_goal("private memory of an idle session", idle, "MiB", 15),
        Figure(name="private memory after pandas was used", value=round(used, 1), unit="MiB"),
        against_goal(
            f"worker killed, {SESSIONS_PER_KILL} sessions: none left, worst of {KILLS}", max(kills), "ms", 100
        ),
    ]


def main() -> None:
    """Measure, print, write."""
    report("sandbox", asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 40)))


if __name__ == "__main__":
    main()
