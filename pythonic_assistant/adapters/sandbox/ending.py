"""Why a session ended, as a sentence for the person and for the model."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from pythonic_assistant.domain.limits import SandboxLimits

_MIB = 1 << 20
_GONE = "The session and its variables are gone"
# What is counted from time to time, where the kernel does not refuse it on the spot.
_COUNTED = {
    "disk": (
        "The code's files took more than {disk} MiB, the limit of a session (disk_bytes). "
        f"{_GONE}: write less, or remove files that are no longer needed."
    ),
    "inodes": (
        "The code made more than {inodes:,} files and folders, the limit of a session (inodes). "
        f"{_GONE}: write fewer files."
    ),
    "processes": (
        "The code ran more than {processes} processes at once, the limit of a session (processes). "
        f"{_GONE}: start fewer."
    ),
    "hidden": (
        "A process of the code hid its open files from the sandbox, which counts them as disk. "
        f"{_GONE}: start only programmes that can be read."
    ),
}


def sentence(end: Mapping[str, Any] | None, limits: SandboxLimits) -> str:
    """Say why a session ended.

    Args:
        end: the last message of the session's init; None where none came.
        limits: of the session.
    """
    if end is None:
        return "The session ended without a reason: its zygote was stopped, or the machine ran out of memory."
    why = end.get("why")
    if why == "memory":
        return (
            f"The code used more than {limits.memory_bytes / _MIB:,.0f} MiB of memory, the limit of a "
            "session (memory_bytes, scratch files included). The session and its variables are gone: work "
            "in smaller pieces."
        )
    if why in _COUNTED:
        return _COUNTED[why].format(
            disk=f"{limits.disk_bytes / _MIB:,.0f}", inodes=limits.inodes, processes=limits.processes
        )
    status = end.get("status")
    if not isinstance(status, int):
        return "The session was ended by its host."
    if status == -signal.SIGXCPU:
        return (
            f"The code used more than {limits.cpu_seconds} seconds of CPU time, the limit of a session "
            "(cpu_seconds). The session and its variables are gone."
        )
    if status == -signal.SIGXFSZ:
        return (
            f"The code wrote a file beyond {limits.disk_bytes / _MIB:,.0f} MiB, the limit of a session "
            "(disk_bytes). The session and its variables are gone."
        )
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        return f"The code's process was ended by {name}. The session and its variables are gone."
    return f"The code ended its own process with status {status}. The session and its variables are gone."
