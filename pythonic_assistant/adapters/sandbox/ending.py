"""Why code ended a session, or itself, as a sentence for the person and for the model."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from pythonic_assistant.domain.limits import SandboxLimits

_MIB = 1 << 20
_GONE = "The session and its variables are gone."
_KEPT = "Variables are as before this code; files that it wrote are still there, its processes are not."
# What is counted from time to time, where the kernel does not refuse it on the spot.
_COUNTED = {
    "disk": (
        "The code's files took more than {disk} MiB, the limit of a session (disk_bytes). {after} Write "
        "less, or remove files that are no longer needed."
    ),
    "inodes": (
        "The code made more than {inodes:,} files and folders, the limit of a session (inodes). {after} "
        "Write fewer files."
    ),
    "processes": (
        "The code ran more than {processes} processes at once, the limit of a session (processes). {after} "
        "Start fewer."
    ),
    "hidden": (
        "A process of the code hid its open files from the sandbox, which counts them as disk. {after} Start "
        "only programmes that can be read."
    ),
}


def sentence(end: Mapping[str, Any] | None, limits: SandboxLimits, *, kept: bool = False) -> str:
    """Say why the code's process ended, what became of the variables, and what to do.

    Args:
        end: the last message of the session's init; None where none came.
        limits: of the session.
        kept: whether the state before the code took over.
    """
    if end is None:
        return "The session ended without a reason: its zygote was stopped, or the machine ran out of memory."
    after = _KEPT if kept else _GONE
    why = end.get("why")
    if why == "memory":
        return (
            f"The code used more than {limits.memory_bytes / _MIB:,.0f} MiB of memory, the limit of a "
            f"session (memory_bytes, scratch files included). {after} Work in smaller pieces: read in "
            "chunks, keep only the columns that are needed, delete what is done with."
        )
    if why == "group":
        return (
            "The session could not be put into its control group, and no code was run. Try again; if it "
            "happens again, start the worker anew."
        )
    if why in _COUNTED:
        return _COUNTED[why].format(
            after=after,
            disk=f"{limits.disk_bytes / _MIB:,.0f}",
            inodes=limits.inodes,
            processes=limits.processes,
        )
    status = end.get("status")
    if not isinstance(status, int):
        return "The session was ended by its host."
    if status == -signal.SIGXCPU:
        return (
            f"The code used more than {limits.cpu_seconds} seconds of CPU time, the limit of a process in "
            f"a session (cpu_seconds). {after} Do less, or do it by vectorised operations."
        )
    if status == -signal.SIGXFSZ:
        return (
            f"The code wrote a file beyond {limits.disk_bytes / _MIB:,.0f} MiB, the limit of a session "
            f"(disk_bytes). {after} Write less, or in a denser format such as Parquet."
        )
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        return f"The code's process was ended by {name}. {after}"
    return f"The code ended its own process with status {status}. {after} A step shall just end."


def closed(*, kept: bool) -> str:
    """Say that code closed the channel on which it is talked to, and lived on."""
    return f"The code closed the sandbox's own control channel, and was ended. {_KEPT if kept else _GONE}"


def overdue(seconds: float, *, kept: bool) -> str:
    """Say that code ran too long and could not be interrupted."""
    return (
        f"The code ran longer than {seconds:g} seconds, the limit of one step (execution_seconds), and did "
        f"not stop when it was interrupted. {_KEPT if kept else _GONE} Do less at a time."
    )


def interrupted(seconds: float) -> str:
    """Say that code ran too long and was interrupted."""
    return (
        f"The code ran longer than {seconds:g} seconds, the limit of one step (execution_seconds), and was "
        "interrupted; variables are kept. Do less at a time, or go on from where it stopped."
    )
