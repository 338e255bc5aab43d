"""What other ways to run a piece of Python cost: a fresh interpreter, and a Jupyter kernel."""

from __future__ import annotations

import subprocess
import sys
import time

from jupyter_client.manager import AsyncKernelManager

IMPORTS = "import numpy, pandas, matplotlib.pyplot"
_SECONDS = 60.0


def fresh_interpreter() -> float:
    """Return the milliseconds of a fresh Python with the imports."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return (time.perf_counter() - began) * 1000


async def jupyter_kernel() -> tuple[float, float]:
    """Return the milliseconds until a kernel has the imports, and those of a trivial cell in it."""
    began = time.perf_counter()
    manager = AsyncKernelManager(kernel_name="python3")
    # By its module and not by an installed kernel specification, which may name another Python.
    manager.kernel_cmd = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    await manager.start_kernel()
    client = manager.client()
    try:
        client.start_channels()
        await client.wait_for_ready(timeout=_SECONDS)
        await _run(client, IMPORTS)
        ready = (time.perf_counter() - began) * 1000
        began = time.perf_counter()
        await _run(client, "1")
        return ready, (time.perf_counter() - began) * 1000
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
