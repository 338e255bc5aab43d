"""Landlock: a second wall around files and signals, kept up by the kernel for the process and its children.

Interface versions (Documentation/userspace-api/landlock.rst): 1 Linux 5.13, 2 5.19, 3 6.2, 4 6.7,
5 6.10, 6 6.12, 7 6.15.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from .syscalls import LIBC, syscall

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

# include/uapi/linux/landlock.h
_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_MAKE_CHAR = 1 << 6
_MAKE_BLOCK = 1 << 11
_TRUNCATE = 1 << 14
_IOCTL_DEV = 1 << 15
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many bits each interface version knows
_NETWORK_RIGHTS = 1 << 0 | 1 << 1  # BIND_TCP, CONNECT_TCP
_SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0
_SCOPE_SIGNAL = 1 << 1

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV


def version() -> int:
    """Return the kernel's interface version; 0 where Landlock is missing or switched off."""
    none = ctypes.c_void_p(None)
    found = int(
        LIBC.syscall(
            ctypes.c_long(_CREATE_RULESET), none, ctypes.c_long(0), ctypes.c_long(_CREATE_RULESET_VERSION)
        )
    )
    return max(found, 0)


def restrict(
    readable: Iterable[str | int],
    writable: Iterable[str],
    *,
    no_network: bool = False,
    most: int | None = None,
) -> None:
    """Limit this process to reading and executing below some paths, and to writing below others.

    `no_new_privs` must be set. Signals and abstract sockets are limited to the session too, where the
    kernel knows how (version 6). Does nothing where Landlock is missing: the namespaces are the wall
    that stands then.

    Args:
        readable: paths, or descriptors of open files.
        writable: paths.
        no_network: whether TCP is refused as well, where the kernel knows how (version 4).
        most: the newest interface version to use; an older kernel than this one is tried out with it.
    """
    known = version() if most is None else min(version(), most)
    if known == 0:
        return
    handled = (1 << _FILE_RIGHTS[min(known, max(_FILE_RIGHTS))]) - 1
    network = _NETWORK_RIGHTS if no_network and known >= 4 else 0
    scope = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if known >= 6 else 0
    attributes = struct.pack("QQQ", handled, network, scope)[: 24 if known >= 6 else 16 if known >= 4 else 8]
    ruleset = syscall(
        "landlock_create_ruleset",
        _CREATE_RULESET,
        ctypes.create_string_buffer(attributes, len(attributes)),
        len(attributes),
        0,
    )
    try:
        for place in readable:
            _allow(ruleset, place, _READ & handled)
        for place in writable:
            _allow(ruleset, place, handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV))
        syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str | int, rights: int) -> None:
    place = path if isinstance(path, int) else os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _ON_FILES
        rule = struct.pack("=Qi", rights, place)
        syscall(
            f"landlock_add_rule {path}",
            _ADD_RULE,
            ruleset,
            _RULE_PATH_BENEATH,
            ctypes.create_string_buffer(rule, len(rule)),
            0,
        )
    finally:
        if not isinstance(path, int):
            os.close(place)
