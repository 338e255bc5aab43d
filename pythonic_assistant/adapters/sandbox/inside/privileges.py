"""Who a process may be: capabilities, user mappings, slot users, and giving everything up."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from dataclasses import dataclass
from pathlib import Path

from .syscalls import (
    LIBC,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECUREBITS,
    checked,
    prctl,
)

USER_INSIDE = 1000
GROUP_INSIDE = 1000

# include/uapi/linux/capability.h
_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER, _CAP_KILL = 0, 1, 3, 5
_CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP, _CAP_SYS_ADMIN = 6, 7, 8, 21
_CAPABILITY_VERSION_3 = 0x20080522
# NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off, each with its lock (include/uapi/linux/securebits.h)
_SECUREBITS = 0x2F
# Users that no account of a host uses: below 2^31, above every range that distributions hand out.
_SLOT_BASE = 1 << 30
_SLOT_COUNT = 1 << 29
# Where a container maps fewer: above the accounts of people, below systemd's (UIDS-GIDS.md) and nobody.
_SMALL_SLOT_BASE = 20_000
_SMALL_SLOT_COUNT = 30_000


@dataclass(slots=True)
class Slots:
    """Users that sessions run as, one for each, so that per-user limits count one session only."""

    base: int
    count: int
    taken: int = 0

    def take(self) -> int:
        """Return the next user."""
        self.taken += 1
        return self.base + self.taken % self.count


def slots() -> Slots | None:
    """Return users for sessions when this process may become other users and may mount; else None."""
    if not _has(_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN):
        return None
    return _users(_SLOT_BASE, _SLOT_COUNT)


def slots_without_namespaces() -> Slots | None:
    """Return users for sessions when this process may become others, and rule over what they do."""
    files = _CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER
    if not _has(*files, _CAP_KILL, _CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP):
        return None
    return _users(_SLOT_BASE, _SLOT_COUNT) or _users(_SMALL_SLOT_BASE, _SMALL_SLOT_COUNT)


def _users(base: int, count: int) -> Slots | None:
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, length = (int(word) for word in line.split())
        if first <= base and first + length >= base + count:
            # A random start keeps the zygotes of one machine apart.
            return Slots(base=base, count=count, taken=int.from_bytes(os.urandom(4), "little") % count)
    return None


def _has(*capabilities: int) -> bool:
    wanted = sum(1 << capability for capability in capabilities)
    return _effective_capabilities() & wanted == wanted


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def map_user(inside_user: int, inside_group: int, outside_user: int, outside_group: int) -> None:
    """Map one user and one group of the parent into the user namespace just entered."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside_user} {outside_user} 1")
    Path("/proc/self/gid_map").write_text(f"{inside_group} {outside_group} 1")


def become_inside() -> None:
    """Become the session's user, whom the namespace maps already."""
    os.setresgid(GROUP_INSIDE, GROUP_INSIDE, GROUP_INSIDE)
    os.setresuid(USER_INSIDE, USER_INSIDE, USER_INSIDE)
    # Changing users makes a process undumpable, and then its own files in /proc belong to root.
    prctl(PR_SET_DUMPABLE, 1)


def become(user: int) -> None:
    """Become a user, and a group of the same number, for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    prctl(PR_SET_DUMPABLE, 1)


def drop_all_capabilities(user: int | None = None) -> None:
    """Give up every capability, and every way to get one back.

    Args:
        user: become this user as well.
    """
    if _has(_CAP_SETPCAP):  # else there is nothing to get back: it takes a setuid programme
        for capability in range(64):
            if LIBC.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), *[ctypes.c_ulong(0)] * 3) < 0:
                break  # past the last capability of this kernel
        prctl(PR_SET_SECUREBITS, _SECUREBITS)
    if user is not None:
        become(user)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("II", _CAPABILITY_VERSION_3, 0), 8)
    nothing = ctypes.create_string_buffer(24)
    checked(int(LIBC.capset(header, nothing)), "capset")
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def limit(which: int, value: int, *, above: int = 0) -> None:
    """Set a resource limit, soft and (so much above) hard, never above the hard limit that is there."""
    _, hard = resource.getrlimit(which)
    wanted = value + above
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(which, (min(value, wanted), wanted))
