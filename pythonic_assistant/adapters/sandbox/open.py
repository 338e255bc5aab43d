"""The ways to a sandbox that need no choice. Nothing that needs Linux is imported before Linux is certain."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pythonic_assistant.domain.errors import SandboxUnavailableError

if TYPE_CHECKING:
    from pythonic_assistant.adapters.sandbox.collect import CollectLimits
    from pythonic_assistant.adapters.sandbox.owned import OwnedSandbox
    from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
    from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteTier


@asynccontextmanager
async def zygote_sandbox(
    socket_path: Path | None = None,
    *,
    tier: ZygoteTier = "namespaces",
    probe: bool = True,
    collect_limits: CollectLimits | None = None,
) -> AsyncGenerator[OwnedSandbox, None]:
    """Start a zygote, prove that it isolates, and end it with everything in it on leaving.

    Args:
        socket_path: where runners will find the zygote; by default in a fresh folder of our own.
        tier: what isolates; "landlock" is for hosts that allow no namespaces, "unsafe" isolates nothing.
        probe: whether the walls are tried before anything else runs (about 0.1 s).
        collect_limits: caps on the files taken out of a session.

    Yields:
        A sandbox whose `wait_lost()` tells when the zygote is gone for good; a long-lived owner awaits it
        beside its work.

    Raises:
        SandboxUnavailableError: this host cannot isolate code; the message says what to change.
        ConfigurationError: the socket's path cannot be used, or another zygote listens there.
    """
    ensure_linux()
    from pythonic_assistant.adapters.sandbox.owned import OwnedSandbox
    from pythonic_assistant.adapters.sandbox.probe import ensure_isolated, ensure_works
    from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess

    async with ZygoteProcess(socket_path, tier=tier) as zygote:
        sandbox = OwnedSandbox(zygote, tier=tier, collect_limits=collect_limits)
        if probe:
            await (ensure_works(sandbox) if tier == "unsafe" else ensure_isolated(sandbox))
        yield sandbox


def connect_sandbox(socket_path: Path, *, collect_limits: CollectLimits | None = None) -> NamespaceSandbox:
    """Use the sandbox of another process of the same user, whatever its tier. The first `open` connects.

    Raises:
        SandboxUnavailableError: this is not Linux.
    """
    ensure_linux()
    from pythonic_assistant.adapters.sandbox.listening import tier_at
    from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox

    return NamespaceSandbox(socket_path, tier=tier_at(socket_path), collect_limits=collect_limits)


def ensure_linux() -> None:
    """Refuse where there are no walls to be had.

    Raises:
        SandboxUnavailableError: this is not Linux.
    """
    if sys.platform != "linux":
        name = {"darwin": "macOS", "win32": "Windows"}.get(sys.platform, sys.platform)
        raise SandboxUnavailableError(
            f"Generated code can be isolated on Linux only, and this is {name}. Run the worker inside "
            "Linux: in Docker Desktop with the image of deploy/ (see docs/deploy.md), in a virtual machine, "
            "or in WSL 2 on Windows."
        )
