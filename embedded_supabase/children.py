"""Child processes that end with their parent, even when the parent is killed."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from embedded_supabase.account import Account
from pythonic_assistant.domain.errors import ConfigurationError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _c_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


_LIBC = _c_library()
LOG_LIMIT = 8 << 20
"""Bytes of a log file above which it is moved aside at the next start."""


def die_with_parent(sign: signal.Signals) -> Callable[[], None]:
    """What a child runs before its programme, so that the kernel sends `sign` when the parent is gone."""
    parent = os.getpid()

    def arrange() -> None:
        if _LIBC is None:
            return
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(sign))
        if os.getppid() != parent:  # the parent died before prctl took effect
            os._exit(1)

    return arrange


def open_log(path: Path) -> int:
    """Open a log file for appending, moving it aside once it is larger than `LOG_LIMIT`."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_suffix(".old.log"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def tail(path: Path, lines: int = 8) -> str:
    """The last lines of a log file, for an error message."""
    try:
        with path.open(errors="replace") as file:
            return "".join(deque(file, maxlen=lines)).strip()
    except OSError:
        return "(no log)"


async def spawn(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str],
    at_parents_death: signal.Signals,
    account: Account | None = None,
    cwd: Path | None = None,
    talks: bool = False,
) -> asyncio.subprocess.Process:
    """Start a child in a session of its own (so that Ctrl-C reaches only the parent).

    Args:
        command: the programme and its arguments.
        log: where its stderr goes, and its stdout unless `talks`.
        env: its whole environment.
        at_parents_death: the signal that it gets when this process is gone (Linux only).
        account: to run as.
        cwd: its working folder; `/` if none is given.
        talks: whether its stdin and stdout are pipes to this process.

    Raises:
        ConfigurationError: the programme cannot be started.
    """
    runs_as = account if account is not None and account.switched else None
    descriptor = open_log(log)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if talks else descriptor,
            stderr=descriptor,
            env=dict(env),
            cwd=cwd or Path("/"),
            start_new_session=True,
            preexec_fn=die_with_parent(at_parents_death),  # one prctl call, takes no lock of Python's
            user=runs_as.uid if runs_as else None,
            group=runs_as.gid if runs_as else None,
            extra_groups=[] if runs_as else None,
        )
    except OSError as error:
        raise ConfigurationError(f"{command[0]} cannot be started: {error.strerror}.") from error
    finally:
        os.close(descriptor)


async def stop(process: asyncio.subprocess.Process, sign: signal.Signals, *, grace: float) -> None:
    """Ask a child to end; kill it after `grace` seconds."""
    if process.stdin is not None:
        process.stdin.close()
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(sign)
    try:
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
