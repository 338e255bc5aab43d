"""What it costs to keep the state before a step, and to go back to it.

`make bench-checkpoints`. The peer is the same step without a checkpoint. A checkpoint is a fork, so its cost
grows with the memory that the session has touched.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from benchmarks.report import Figure, against_goal, against_peer, report
from pythonic_assistant.adapters.sandbox import zygote_sandbox
from pythonic_assistant.ports import Sandbox, SandboxSession

STEPS = 30
_LARGE = "import numpy\nlarge = numpy.ones(400 << 17)"  # 400 MiB of eight-byte numbers


async def _step(session: SandboxSession, *, checkpoint: bool) -> float:
    began = time.perf_counter()
    await session.execute("x = 1", timeout=10, checkpoint=checkpoint)
    return (time.perf_counter() - began) * 1000


async def _back(session: SandboxSession) -> float:
    await session.execute("x = 2", timeout=10, checkpoint=True)
    began = time.perf_counter()
    if not await session.rollback():
        raise RuntimeError("there was no state to go back to")
    return (time.perf_counter() - began) * 1000


async def _medians(sandbox: Sandbox, before: str) -> tuple[float, float, float]:
    """Return the milliseconds of a plain step, of one with a checkpoint, and of going back."""
    session = await sandbox.open()
    try:
        prepared = await session.execute(before, timeout=60)
        if prepared.outcome != "ok":
            raise RuntimeError(prepared.error)
        plain = [await _step(session, checkpoint=False) for _ in range(STEPS)]
        kept = [await _step(session, checkpoint=True) for _ in range(STEPS)]
        back = [await _back(session) for _ in range(STEPS)]
    finally:
        await session.close()
    return statistics.median(plain), statistics.median(kept), statistics.median(back)


async def measure() -> list[Figure]:
    """Return all figures."""
    async with zygote_sandbox(probe=False) as sandbox:
        plain, kept, back = await _medians(sandbox, "import pandas")
        _, kept_large, back_large = await _medians(sandbox, _LARGE)
    return [
        against_peer("trivial step", plain, "ms", "the same with a checkpoint", kept),
        against_goal("step with a checkpoint", kept, "ms", 5),
        Figure(name="step with a checkpoint, 400 MiB in use", value=round(kept_large, 2), unit="ms"),
        Figure(name="going back", value=round(back, 2), unit="ms"),
        Figure(name="going back, 400 MiB in use", value=round(back_large, 2), unit="ms"),
    ]


if __name__ == "__main__":
    report("checkpoints", asyncio.run(measure()))
