"""What an attack is, and the programme that tries it inside of a session."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pythonic_assistant.adapters.sandbox.inside import bare_filter
from pythonic_assistant.adapters.sandbox.inside.seccomp import REFUSED

Layer = Literal[
    "root",  # a file system of its own, read-only
    "landlock",
    "seccomp",
    "network",  # a network namespace
    "processes",  # a pid namespace and a /proc of its own
    "capabilities",  # none are left
    "limits",  # resource limits, quotas of the disks
    "watchdog",  # the session's init, which looks on
    "user",  # a user that owns nothing on the host
    "host",  # bounded reads, openat2 beneath the folder, deadlines
    "end",  # nothing of a session outlives it, nothing is shared with the next
    "proxy",  # the way out, which decides about every request
]
EVERYWHERE = frozenset({"namespaces", "bwrap", "landlock"})
BOXED = frozenset({"namespaces", "bwrap"})
"""The tiers that have namespaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One idea of how to get out, or to harm the host.

    Attributes:
        code: body of a function. It returns a value if it got through, and raises OSError if it was stopped;
            any other exception is a mistake of the attack. `GIVEN` holds what it aims at, `N` the numbers of
            system calls.
        meaning: what it means when it gets through.
        stopped_by: the layers in its way, the first to be met first.
        tiers: where it makes sense.
        machine: the only machine it is for, or None.
        death: words; a session whose end is told with one of them has stopped the attack.
        limits: of the session, over the default ones.
        look: body of a function that is run in the next session; returns a value if something was left there.
        checked: body of a function that is run where checks run, after the code has done the work; returns a
            value if the work got at what runs there.
        forged: the session's own words do not count: whatever it answers, the host must be unharmed.
        alone: it means something only in a session where nothing was tried before.
        collects: its scratch folder is collected afterwards.
        seconds: what the code may take.
    """

    name: str
    group: str
    code: str
    meaning: str
    stopped_by: tuple[Layer, ...]
    tiers: frozenset[str] = EVERYWHERE
    machine: str | None = None
    death: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    look: str = ""
    checked: str = ""
    forged: bool = False
    alone: bool = False
    collects: bool = False
    seconds: float = 5.0

    @property
    def can_share(self) -> bool:
        """Whether it means the same in a session where others were tried before, and lets it live."""
        ends_or_looks = self.death or self.forged or self.limits or self.look or self.checked
        return not (self.alone or self.collects or ends_or_looks)


_PREAMBLE = """
import array, ctypes, errno, fcntl, glob, json, mmap, os, pathlib, resource, signal, socket, stat, struct
import subprocess, sys, tempfile, threading, time
GIVEN = json.loads({given!r})
N = json.loads({numbers!r})
libc = ctypes.CDLL(None, use_errno=True)
def syscall(number, *arguments):
    if isinstance(number, str):
        number = N[number]
        if number is None: raise OSError('this machine has no such call')
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *passed)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
def room(size=256): return ctypes.create_string_buffer(size)
def message(payload): os.write(3, struct.pack('!I', len(payload)) + payload)
def permitted(call, *arguments):
    try: return call(*arguments)
    except ValueError as error: raise OSError(str(error))  # so Python tells of a hard limit
def attempt():
{body}
try:
    got = attempt()
except OSError as error:
    print('HELD', str(error)[:200])
else:
    print('THROUGH', repr(got)[:300])
"""
_COLUMN = {"x86_64": 0, "aarch64": 1}
_OTHERS = {
    "clone": (56, 220),
    "getpid": (39, 172),
    "tgkill": (234, 131),
    "prctl": (157, 167),
    "socket": (41, 198),
}


def numbers() -> dict[str, int | None]:
    """Return this machine's numbers of the system calls that attacks name."""
    column = _COLUMN[platform.machine()]
    rows = {**REFUSED, **bare_filter.REFUSED, **bare_filter.REFUSED_SIGNALS, **_OTHERS}
    return {name: row[column] for name, row in rows.items()}


def programme(body: str, given: Mapping[str, Any]) -> str:
    """Return code that prints HELD or THROUGH as its first word."""
    indented = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    return _PREAMBLE.format(given=json.dumps(given), numbers=json.dumps(numbers()), body=indented)
