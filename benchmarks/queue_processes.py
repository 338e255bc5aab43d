"""Worker processes of `bench_queue`, and what they say."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

SETTLE_SECONDS = 1.0


class WorkerProcess:
    """One `benchmarks.queue_worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self, key: str, seconds: float) -> dict[str, Any]:
        """Wait for a line with this key."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            while line := await self.process.stdout.readline():
                said = json.loads(line)
                if key in said:
                    return said
        raise RuntimeError("a worker process has ended by itself")


@asynccontextmanager
async def worker_process(name: str, url: str, mode: str) -> AsyncGenerator[WorkerProcess]:
    """A worker that has connected and found nothing to do; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.queue_worker", name, url, mode, stdout=asyncio.subprocess.PIPE
    )
    worker = WorkerProcess(process)
    try:
        await worker.says("started", 30)
        await asyncio.sleep(SETTLE_SECONDS)
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
