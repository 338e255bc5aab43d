"""What a sandbox is opened with, whichever its tier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pythonic_assistant.domain.limits import SandboxLimits

if TYPE_CHECKING:
    from pythonic_assistant.adapters.sandbox.collect import CollectLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """What every tier is opened with.

    Attributes:
        limits: of most sessions; a tier that prepares sessions ahead prepares them for these.
        packages: folder whose `current/` holds additional packages; see `packages.py` of the command line.
        collect_limits: caps on the files taken out of a session.
        warm: how many sessions are kept prepared where that cannot be done in milliseconds.
    """

    limits: SandboxLimits = SandboxLimits()
    packages: Path | None = None
    collect_limits: CollectLimits | None = None
    warm: int = 2
