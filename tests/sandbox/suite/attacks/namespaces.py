"""Namespaces, mounts, roots: leaving the file system and the names that a session was given."""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import BOXED, Attack, Layer


def _attack(name: str, code: str, *stopped_by: Layer, meaning: str = "", **more: Any) -> Attack:
    return Attack(
        name=name,
        group="namespaces",
        code=code,
        meaning=meaning or "it is privileged in a namespace, which opens much of the kernel to it",
        stopped_by=stopped_by,
        **more,
    )


_FILES = "it can change what files there are"

ATTACKS = (
    _attack("user namespace", "return syscall('unshare', 0x10000000)", "seccomp"),
    _attack("mount namespace", "return syscall('unshare', 0x20000)", "seccomp", "capabilities"),
    _attack("time namespace", "return syscall('unshare', 0x80)", "seccomp", "capabilities"),
    _attack("clone into namespaces", "return syscall('clone', 0x10000000 | 17, 0, 0, 0, 0)", "seccomp"),
    _attack(
        "clone3", "return syscall(435, struct.pack('8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)", "seccomp"
    ),
    _attack(
        "enter the namespace of init",
        "return syscall('setns', os.open('/proc/1/ns/mnt', os.O_RDONLY), 0)",
        "seccomp",
        "processes",
        "capabilities",
    ),
    _attack(
        "enter by a process descriptor",
        "return syscall('setns', os.pidfd_open(1), 0x20000)",
        "seccomp",
        "capabilities",
    ),
    _attack("mount", "return syscall('mount', b'none', b'/tmp', b'tmpfs', 0, 0)", "seccomp", meaning=_FILES),
    _attack("unmount the cover", "return syscall('umount2', b'/proc', 2)", "seccomp", meaning=_FILES),
    _attack("chroot", "os.chroot('.')\nreturn 'chroot'", "seccomp", meaning=_FILES),
    _attack("pivot_root", "return syscall('pivot_root', b'.', b'.')", "seccomp", meaning=_FILES),
    _attack("open_tree", "return syscall('open_tree', -100, b'/', 1)", "seccomp", meaning=_FILES),
    _attack("new mount interface", "return syscall('fsopen', b'tmpfs', 0)", "seccomp", meaning=_FILES),
    _attack(
        "make mounts writable",
        "return syscall('mount_setattr', -100, b'/', 0x8000, struct.pack('4Q', 0, 1, 0, 0), 32)",
        "seccomp",
        "capabilities",
        meaning=_FILES,
    ),
    _attack(
        "name of the host",
        "return syscall('sethostname', b'owned', 5)",
        "seccomp",
        "capabilities",
        meaning="it can rename the machine",
    ),
    _attack(
        "names of the host's network",
        "found = [name for _, name in socket.if_nameindex() if name != 'lo']\n"
        "if found: return found\nraise OSError('loopback only')",
        "network",
        "seccomp",
        meaning="it sees the network of the host",
        tiers=BOXED,
    ),
)
