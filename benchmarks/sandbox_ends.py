"""What a session holds while it idles, and how long its processes outlive a worker that was killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_MIB = 1 << 20
_START_SECONDS = 60.0
_END_SECONDS = 5.0
# A worker in small: it owns a zygote, holds sessions with work in them, and says when it is ready.
_WORKER = """
import asyncio
from pythonic_assistant.adapters.sandbox import zygote_sandbox

async def main():
    async with zygote_sandbox(probe=False) as sandbox:
        sessions = [await sandbox.open() for _ in range({count})]
        for session in sessions:
            await session.execute("import subprocess; p = subprocess.Popen(['sleep', '600'])", timeout=20)
        busy = sessions[0].execute("while True: pass", timeout=600)
        running = asyncio.create_task(busy)
        await asyncio.sleep(0.1)
        print("ready", flush=True)
        await running

asyncio.run(main())
"""


def descendants(process: int) -> list[int]:
    """Return the process ids below a process, as they are now."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended just now
                continue
            children.setdefault(parent, []).append(int(path.name))
    found: list[int] = []
    pending = [process]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def private_bytes(processes: Sequence[int]) -> int:
    """Return the memory that processes share with nobody: what their end would free (USS)."""
    total = 0
    for process in processes:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(line.split()[1]) << 10
    return total


def mebibytes(size: int) -> float:
    """Return bytes as MiB."""
    return size / _MIB


def after_kill(sessions: int) -> float:
    """Kill a worker with some sessions; return the milliseconds until none of its processes is left.

    Raises:
        RuntimeError: the worker did not start, or processes stayed.
    """
    command = [sys.executable, "-c", _WORKER.format(count=sessions)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        if not select.select([worker.stdout], [], [], _START_SECONDS)[0] or not worker.stdout.readline():
            worker.kill()
            raise RuntimeError("the worker did not start")
        below = descendants(worker.pid)
        if len(below) < 2 + 3 * sessions:  # both zygotes; init, REPL and its child for each session
            worker.kill()
            raise RuntimeError(f"only {len(below)} processes run")
        # Opened before the kill: a number may be given to another process afterwards.
        handles = [os.pidfd_open(process) for process in below]
        began = time.perf_counter()
        os.kill(worker.pid, signal.SIGKILL)
        try:
            return _until_gone(handles, began)
        finally:
            for handle in handles:
                os.close(handle)


def _until_gone(handles: Sequence[int], began: float) -> float:
    left = select.poll()
    waiting = set(handles)
    for handle in waiting:
        left.register(handle, select.POLLIN)  # readable: the process has ended
    while waiting:
        spent = time.perf_counter() - began
        if spent > _END_SECONDS:
            raise RuntimeError(f"{len(waiting)} processes outlived the worker by {_END_SECONDS:g} seconds")
        for handle, _ in left.poll((_END_SECONDS - spent) * 1000):
            left.unregister(handle)
            waiting.discard(handle)
    return (time.perf_counter() - began) * 1000
