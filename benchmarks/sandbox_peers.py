"""What other ways to run a piece of Python cost: a fresh interpreter, and a Jupyter kernel."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
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
    # Any: its methods are typed in part only.
    manager: Any = AsyncKernelManager(kernel_name=NATIVE_KERNEL_NAME)  # of this very interpreter
    await manager.start_kernel(stderr=subprocess.DEVNULL)  # it warns of TCP, on which it listens on loopback
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


async def _run(client: Any, code: str) -> None:
    reply = await client.execute_interactive(code, timeout=_SECONDS)
    if reply["content"]["status"] != "ok":
        raise RuntimeError(f"the kernel answered {reply['content']}")
