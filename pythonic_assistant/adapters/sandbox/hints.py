"""Errors that a limit has caused, explained: the kernel's words name neither the limit nor a remedy."""

from __future__ import annotations

import os
import re

from pythonic_assistant.domain.limits import SandboxLimits

_MIB = 1 << 20
# The last line of a traceback names the error; a line further up may belong to one that was handled.
_NO_SPACE = re.compile(r"\[Errno 28\]|No space left on device")
_QUOTA = re.compile(r"\[Errno 122\]|Disk quota exceeded")
_OPEN_FILES = re.compile(r"\[Errno 24\]|Too many open files")
_PROCESSES = re.compile(
    r"BlockingIOError: \[Errno 11\] Resource temporarily|can't start new thread|Cannot fork|fork: retry"
)
_MEMORY = re.compile(
    r"^(\S+\.)?_?(Array)?MemoryError\b|\[Errno 12\]|ArrowMemoryError|bad_alloc", re.MULTILINE
)
_TOO_LARGE = re.compile(r"\[Errno 27\]|File too large")
_READ_ONLY = re.compile(r"\[Errno 30\]|Read-only file system")


def explained(error: str, limits: SandboxLimits, scratch: int) -> str:
    """Return the error, with a sentence where a limit of the session is its cause.

    Args:
        error: the traceback of the code.
        limits: of the session.
        scratch: descriptor of the scratch folder: how full it is tells what there is no space for.
    """
    lines = error.strip().splitlines()
    # Libraries wrap errors: of a chain, each link's last line stands without indentation.
    said = "\n".join(line for line in lines if line and not line[0].isspace())
    hint = _hint(said, limits, scratch)
    return f"{error.rstrip()}\n{hint}" if hint else error


def output_cut(limits: SandboxLimits) -> str:
    """Return what to say where output was cut."""
    return (
        f"\n[cut: stdout and stderr together have {limits.output_bytes:,} bytes at most, the limit of one "
        "step (output_bytes). Print less: a summary, or the first rows; write the rest into a file.]\n"
    )


def _hint(said: str, limits: SandboxLimits, scratch: int) -> str:
    if _NO_SPACE.search(said) or _QUOTA.search(said):
        return _no_space(limits, scratch)
    if _OPEN_FILES.search(said):
        return (
            f"A process may have {limits.open_files} open files, the limit of a session (open_files). "
            "Close files when done, best by `with`."
        )
    if _PROCESSES.search(said):
        return (
            f"There may be {limits.processes} processes and threads at a time, the limit of a session "
            "(processes). Start fewer, and wait for those that were started."
        )
    if _MEMORY.search(said):
        return (
            f"The session may use {limits.memory_bytes / _MIB:,.0f} MiB of memory, the limit of a session "
            "(memory_bytes). Work in smaller pieces: read in chunks, keep only the columns that are needed."
        )
    if _TOO_LARGE.search(said):
        return (
            f"A file may have {limits.disk_bytes / _MIB:,.0f} MiB, the limit of a session (disk_bytes). "
            "Write less, or in a denser format such as Parquet."
        )
    if _READ_ONLY.search(said):
        return "Only the current folder (unless it is shown for reading only) and /tmp can be written to."
    return ""


def _no_space(limits: SandboxLimits, scratch: int) -> str:
    bytes_told = (
        f"All files may have {limits.disk_bytes / _MIB:,.0f} MiB together, the limit of a session "
        "(disk_bytes). Remove what is not needed, or write in a denser format such as Parquet."
    )
    files_told = (
        f"A session may have {limits.inodes:,} files and folders, the limit of a session (inodes). "
        "Remove those that are not needed, or put many into one archive."
    )
    try:
        space = os.fstatvfs(scratch)
    except OSError:
        return f"{bytes_told} {files_told}"
    if space.f_ffree == 0:
        return files_told
    return bytes_told
