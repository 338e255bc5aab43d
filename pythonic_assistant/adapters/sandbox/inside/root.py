"""The file system of all sessions: read-only, and no more of the host than Python needs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .syscalls import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    pivot_root,
    set_mount_attributes,
    unmount,
)

# What Python and its packages need of a system. Never all of /etc: it holds passwords and private keys.
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
DEVICES = ("null", "zero", "full", "random", "urandom")
FOLDERS = ("/dev/shm", "/home", "/proc", "/run", "/scratch", "/var/tmp")  # noqa: S108
FILES = {
    "/etc/passwd": "user:x:1000:1000::/scratch:/usr/sbin/nologin\n",
    "/etc/group": "user:x:1000:\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/nsswitch.conf": "hosts: files\n",
}
LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
_STAGE = "/tmp"  # noqa: S108  (a mount point that every host has; covered in our own namespace only)


def build(python_paths: Iterable[str]) -> None:
    """Leave the host's file system for a fresh one.

    The caller is alone in a new mount namespace and pid 1 of a new pid namespace. Afterwards `/tmp` is
    the only writable place.

    Args:
        python_paths: files and folders of the interpreter and its packages, kept at their places.
    """
    resolved = {path: os.path.realpath(path) for path in python_paths}
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    # Two steps, because the interpreter may live below the folder on which the new root is staged.
    mount("tmpfs", _STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    os.mkdir(f"{_STAGE}/old")  # noqa: PTH102
    os.mkdir(f"{_STAGE}/new")  # noqa: PTH102
    mount("tmpfs", f"{_STAGE}/new", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=4m")
    pivot_root(_STAGE, f"{_STAGE}/old")
    os.chdir("/")

    new = "/new"
    temporary = new + _STAGE
    os.makedirs(temporary)  # noqa: PTH103
    mount("tmpfs", temporary, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64m")
    for path in SYSTEM:
        _show(path, path)
    for path, real in resolved.items():
        for place in dict.fromkeys((path, real)):
            if not place.startswith("/usr/"):
                _show(real, place)
    os.makedirs(f"{new}/dev", exist_ok=True)  # noqa: PTH103
    for name in DEVICES:
        Path(f"{new}/dev/{name}").touch()
        mount(f"/old/dev/{name}", f"{new}/dev/{name}", None, MS_BIND)
    for path, target in LINKS.items():
        Path(new + path).symlink_to(target)
    for path in FOLDERS:
        os.makedirs(new + path, exist_ok=True)  # noqa: PTH103
    os.makedirs(f"{new}/etc", exist_ok=True)  # noqa: PTH103
    for path, text in FILES.items():
        Path(new + path).write_text(text)
    mount("proc", f"{new}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)

    os.chdir(new)
    pivot_root(".", ".")  # the old root is stacked on the new one, and taken off
    unmount(".")
    os.chdir("/")
    mount(None, "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _show(source: str, place: str) -> None:
    """Make a path of the host visible, read-only; do nothing where the host has no such path."""
    origin, target = f"/old{source}", f"/new{place}"
    if not os.path.lexists(origin) or os.path.ismount(target):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
    if os.path.islink(origin) and source == place:  # noqa: PTH114
        if not os.path.lexists(target):
            Path(target).symlink_to(os.readlink(origin))  # noqa: PTH115
        return
    if os.path.isdir(origin):  # noqa: PTH112
        os.makedirs(target, exist_ok=True)  # noqa: PTH103
    else:
        Path(target).touch()
    mount(origin, target, None, MS_BIND | MS_REC)
    set_mount_attributes(target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
