"""Which tier isolates: found by trying, told to whoever asks, and never weaker than what was asked for.

"auto" takes the first of namespaces, bwrap and landlock that starts and stands its self-test. A tier that is
named is taken or refused, never replaced. "unsafe" is taken only when it is named.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pythonic_assistant.adapters.sandbox.open import ensure_linux, zygote_sandbox
from pythonic_assistant.adapters.sandbox.options import SandboxOptions
from pythonic_assistant.domain.errors import SandboxUnavailableError

if TYPE_CHECKING:
    from pythonic_assistant.adapters.sandbox.owned import OwnedSandbox

Tier = Literal["namespaces", "bwrap", "landlock", "unsafe"]
Wanted = Literal["auto", "namespaces", "bwrap", "landlock", "unsafe"]

_AUTO: tuple[Tier, ...] = ("namespaces", "bwrap", "landlock")
_UNSAFE_NOTE = (
    "PYTHONIC_SANDBOX=unsafe: generated code runs WITHOUT walls and can read, change and send whatever this "
    "user can. Write PYTHONIC_SANDBOX=auto to isolate it."
)


_DEFAULT = SandboxOptions()


@asynccontextmanager
async def open_sandbox(
    socket_path: Path | None = None, *, wanted: Wanted = "auto", options: SandboxOptions = _DEFAULT
) -> AsyncGenerator[OwnedSandbox, None]:
    """Open the first tier that isolates on this host, and end it with everything in it on leaving.

    Args:
        socket_path: where runners will find it; by default in a fresh folder of our own.
        wanted: a tier, or "auto".
        options: for every tier.

    Yields:
        A sandbox whose `note` says why other tiers were not taken.

    Raises:
        SandboxUnavailableError: no tier, or not the one wanted; the message says what each lacks and what
            to change.
        ConfigurationError: the socket's path cannot be used, or another process serves there.
    """
    ensure_linux()
    refused: list[tuple[Tier, SandboxUnavailableError]] = []
    async with AsyncExitStack() as stack:
        for tier in _AUTO if wanted == "auto" else (wanted,):
            try:
                sandbox = await stack.enter_async_context(_of(tier, socket_path, options))
            except SandboxUnavailableError as error:
                if wanted != "auto":
                    raise
                refused.append((tier, error))
                continue
            sandbox.note = _UNSAFE_NOTE if tier == "unsafe" else _note(tier, refused)
            # Left with what the body raises; a failure of the body is no reason to try another tier.
            yield sandbox
            return
    from pythonic_assistant.adapters.sandbox.diagnosis import all_unavailable

    raise SandboxUnavailableError(all_unavailable(refused))


def _of(
    tier: Tier, socket_path: Path | None, options: SandboxOptions
) -> AbstractAsyncContextManager[OwnedSandbox]:
    match tier:
        case "namespaces" | "landlock" | "unsafe":
            return zygote_sandbox(socket_path, tier=tier, collect_limits=options.collect_limits)
        case "bwrap":
            from pythonic_assistant.adapters.sandbox.bwrap import bwrap_sandbox

            return bwrap_sandbox(socket_path, options)


def _note(tier: Tier, refused: Sequence[tuple[Tier, SandboxUnavailableError]]) -> str:
    from pythonic_assistant.adapters.sandbox.diagnosis import reason

    if not refused:
        return ""
    tried = " ".join(f"{name}: {reason(error)}" for name, error in refused)
    return f"Code is isolated by tier {tier}, because stronger ones are not to be had here. {tried}"
