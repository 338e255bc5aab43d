"""The kernel calls that the `os` module lacks, by ctypes. Each raises `OSError` that names the call."""

from __future__ import annotations

import ctypes
import os
import signal
import struct

MACHINE = os.uname().machine
LIBC = ctypes.CDLL(None, use_errno=True)

# include/uapi/linux/sched.h
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# include/uapi/linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_NOEXEC = 8
MOUNT_ATTR_IDMAP = 0x00100000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4

# include/uapi/linux/fcntl.h
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

# include/uapi/linux/openat2.h
RESOLVE_NO_XDEV = 1
RESOLVE_NO_MAGICLINKS = 2
RESOLVE_NO_SYMLINKS = 4
RESOLVE_BENEATH = 8

# Numbers below 424 differ by machine; from there on all machines share them.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CLONE = {"x86_64": 56, "aarch64": 220}
_OPEN_TREE = 428
_MOVE_MOUNT = 429
_OPENAT2 = 437
_MOUNT_SETATTR = 442

SUPPORTED_MACHINES = frozenset(_PIVOT_ROOT)


def checked(result: int, call: str) -> int:
    """Return the result of a C call, or raise with its errno and the name of the call."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def syscall(call: str, number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call by number; integers are passed as C longs."""
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(int(LIBC.syscall(ctypes.c_long(number), *passed)), call)


def prctl(option: int, *arguments: int) -> int:
    """Call prctl(2), unused arguments being zero."""
    padded = [*arguments, 0, 0, 0, 0][:4]
    return checked(int(LIBC.prctl(option, *[ctypes.c_ulong(a) for a in padded])), f"prctl {option}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by the CLONE_NEW* flags for fresh ones."""
    checked(int(LIBC.unshare(ctypes.c_int(flags))), f"unshare {flags:#x}")


def fork_into(flags: int) -> int:
    """Fork; the child begins in fresh namespaces (CLONE_NEW* flags). Returns 0 in the child.

    As pid 1 of a new pid namespace it needs no second fork, which costs a third of a session's start.
    With CLONE_PARENT the child is not ours but our parent's.
    Neither Python's nor libc's fork hooks run: for single-threaded processes whose child is not going to
    run foreign code before it forks again by `os.fork`.
    """
    return syscall("clone", _CLONE[MACHINE], flags | signal.SIGCHLD, 0, 0, 0, 0)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Call mount(2)."""

    def encoded(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    result = LIBC.mount(
        encoded(source), encoded(target), encoded(kind), ctypes.c_ulong(flags), encoded(options)
    )
    checked(int(result), f"mount {source} on {target} ({kind or 'bind'})")


def unmount(target: str) -> None:
    """Detach a mount; it goes away when the last user of it does."""
    checked(int(LIBC.umount2(os.fsencode(target), MNT_DETACH)), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root and put the old root at `old`."""
    syscall("pivot_root", _PIVOT_ROOT[MACHINE], os.fsencode(new), os.fsencode(old))


def set_mount_attributes(place: str | int, attributes: int, *, user_namespace: int | None = None) -> None:
    """Add MOUNT_ATTR_* attributes to a mount and all mounts below it (mount_setattr(2), Linux 5.12).

    Args:
        place: a path, or the descriptor of a mount that is not attached yet.
        attributes: what is added.
        user_namespace: with MOUNT_ATTR_IDMAP, the descriptor of the namespace that maps owners.
    """
    block = struct.pack("QQQQ", attributes, 0, 0, user_namespace or 0)
    buffer = ctypes.create_string_buffer(block, len(block))
    if isinstance(place, int):
        syscall("mount_setattr", _MOUNT_SETATTR, place, b"", AT_EMPTY_PATH, buffer, len(block))
    else:
        syscall(
            "mount_setattr", _MOUNT_SETATTR, AT_FDCWD, os.fsencode(place), AT_RECURSIVE, buffer, len(block)
        )


def clone_mount(path: str) -> int:
    """Return the descriptor of an unattached bind mount of `path` (open_tree(2), Linux 5.2)."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    return syscall("open_tree", _OPEN_TREE, AT_FDCWD, os.fsencode(path), flags)


def attach_mount(descriptor: int, target: str) -> None:
    """Attach a mount that `clone_mount` made (move_mount(2), Linux 5.2)."""
    syscall(
        "move_mount", _MOVE_MOUNT, descriptor, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH
    )


def open_beneath(folder: int, path: str, flags: int) -> int:
    """Open a path that must stay below a folder: no symlinks, no magic links, no other file system.

    openat2(2), Linux 5.6. The kernel resolves the whole path in one go, so nobody can swap a component.
    """
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
    block = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)
    buffer = ctypes.create_string_buffer(block, len(block))
    return syscall("openat2", _OPENAT2, folder, os.fsencode(path), buffer, len(block))
