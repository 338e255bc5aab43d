"""Which tiers there are, how each is opened, and which of them this machine offers to this user.

A tier that the machine offers must be tried: what the machine offers is found out by doing the same things by
hand, not by asking the product.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import get_args

from pythonic_assistant.adapters.sandbox import open_sandbox
from pythonic_assistant.adapters.sandbox.choice import Tier
from pythonic_assistant.adapters.sandbox.inside import landlock
from pythonic_assistant.ports import Sandbox

TIERS: tuple[Tier, ...] = tuple(tier for tier in get_args(Tier) if tier != "unsafe")
"""All that wall anything in; the first is the best."""

DEAR = frozenset({"bwrap"})
"""Tiers in which each session imports everything anew, which keeps a core busy for most of a second."""


def _opener(tier: Tier) -> Callable[[], AbstractAsyncContextManager[Sandbox]]:
    return lambda: open_sandbox(wanted=tier)


OPENERS: Mapping[str, Callable[[], AbstractAsyncContextManager[Sandbox]]] = {
    tier: _opener(tier) for tier in TIERS
}
"""How each tier is opened: as the product does, named, self-test included."""

# In a process of its own, because there is no way back: what a session needs, done once.
_NAMESPACES = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def do(result, what):
    if result: sys.exit(f'{what}: {os.strerror(ctypes.get_errno())}')
user = os.geteuid()
do(libc.unshare(0x10000000 | 0x20000 | 0x20000000 | 0x40000000), 'unshare')
for name, line in {'setgroups': 'deny', 'uid_map': f'1000 {user} 1'}.items():
    open(f'/proc/self/{name}', 'w').write(line)
if os.fork() == 0:
    do(libc.mount(None, b'/', None, ctypes.c_ulong(16384 | 1 << 18), None), 'mount')
    do(libc.mount(b'proc', b'/proc', b'proc', ctypes.c_ulong(14), None), 'mount proc')
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
# The interface version from which signals can be kept within a session of the same user, and the one from
# which files can (Documentation/userspace-api/landlock.rst).
_LANDLOCK_ORDINARY, _LANDLOCK_ROOT = 3, 1


def missing(tier: str) -> str:
    """Say why the machine does not offer a tier to this user; empty when it does."""
    if tier == "namespaces":
        return _try([sys.executable, "-I", "-c", _NAMESPACES])
    if tier == "bwrap":
        if (programme := shutil.which("bwrap")) is None:
            return "bubblewrap is not installed"
        return _try([programme, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"])
    wanted = _LANDLOCK_ROOT if os.geteuid() == 0 else _LANDLOCK_ORDINARY
    found = landlock.version()
    return "" if found >= wanted else f"Landlock {found} of the kernel is older than {wanted}"


def _try(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode == 0:
        return ""
    return done.stderr.strip()[-200:] or f"status {done.returncode}"


def user() -> str:
    """Name the kind of user that this process is."""
    return "root" if os.geteuid() == 0 else "ordinary"
