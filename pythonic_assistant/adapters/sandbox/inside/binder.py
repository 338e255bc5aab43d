"""What a session cannot do for itself, done by the half of the zygote that still sees the host.

Input files and folders: a session cannot bind a file of the host by its descriptor: the kernel refuses mounts
from other mount namespaces (EINVAL). An unattached mount, made here and handed over by descriptor, it may
attach.

Slot users: a process may map a user other than its own into a namespace only from outside. The detour,
instead of becoming the slot user first, lets root work where ordinary users may not make namespaces.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import frames
from .privileges import GROUP_INSIDE, USER_INSIDE
from .syscalls import (
    CLONE_NEWUSER,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    clone_mount,
    set_mount_attributes,
    unshare,
)

_SECONDS = 10.0
_READ_ONLY = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC


def request(
    binder: socket.socket, paths: Sequence[str], files: Sequence[int], owner: int, *, map_owner: bool
) -> list[int | None]:
    """Ask the binder for a user mapping and for one unattached read-only mount per file.

    Called in a session before it gives up its privileges.

    Args:
        binder: the datagram socket to the binder, which all sessions share.
        paths: where the files are on the host.
        files: the same files, opened by the host; they decide what may be bound.
        owner: the user that has to be able to read them, as the zygote counts users.
        map_owner: whether the caller has just entered a user namespace, in which `owner` has no name yet.

    Returns:
        For each file a mount, or None where it can only be copied.

    Raises:
        OSError: the user cannot be mapped.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # The shared socket carries only the private one, so that answers cannot be mixed up.
        socket.send_fds(binder, [b"?"], [theirs.fileno()])
        theirs.close()
        ours.settimeout(_SECONDS)
        caller = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        question = {"paths": list(paths), "owner": owner, "map": map_owner}
        frames.send(ours, question, [caller, *files])
        os.close(caller)
        answer, mounts = frames.receive(ours, frames.MAX_DESCRIPTORS)
    if "error" in answer:
        raise OSError(answer["error"])
    bound = iter(mounts)
    return [next(bound) if made else None for made in answer["made"]]


def serve(binder: socket.socket, *, privileged: bool) -> None:
    """Answer one request. A session that dies meanwhile is of no concern."""
    _, received, _, _ = socket.recv_fds(binder, 1, 1)
    with socket.socket(fileno=received[0]) as channel:
        channel.settimeout(_SECONDS)
        try:
            question, files = frames.receive(channel, frames.MAX_DESCRIPTORS)
        except (OSError, EOFError, frames.FrameError):
            return
        mounts: list[int | None] = []
        try:
            if question["map"]:
                _map(files[0], question["owner"])
            mounts += _bind_all(question, files[1:], privileged=privileged)
            made = [found is not None for found in mounts]
            frames.send(channel, {"made": made}, [found for found in mounts if found is not None])
        except OSError as error:
            _report(channel, error)
        finally:
            for descriptor in [*files, *(found for found in mounts if found is not None)]:
                os.close(descriptor)


def _report(channel: socket.socket, error: OSError) -> None:
    try:
        frames.send(channel, {"error": str(error)})
    except OSError:  # the session is gone as well
        return


def _map(process: int, owner: int) -> None:
    """Give a user of the zygote's a name in the user namespace of a process (its folder in /proc)."""
    lines = {
        "setgroups": "deny",
        "uid_map": f"{USER_INSIDE} {owner} 1",
        "gid_map": f"{GROUP_INSIDE} {owner} 1",
    }
    for name, line in lines.items():
        descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=process)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def _bind_all(question: dict[str, Any], files: Sequence[int], *, privileged: bool) -> list[int | None]:
    owners: dict[tuple[int, int], int] = {}
    try:
        found: list[int | None] = []
        for path, file in zip(question["paths"], files, strict=True):
            try:
                found.append(_bind(path, file, question["owner"] if privileged else None, owners))
            except OSError:  # the caller copies instead
                found.append(None)
        return found
    finally:
        for descriptor in owners.values():
            os.close(descriptor)


def _bind(path: str, file: int, owner: int | None, owners: dict[tuple[int, int], int]) -> int | None:
    expected = os.fstat(file)
    mounted = clone_mount(path)
    try:
        seen = os.stat(mounted)  # noqa: PTH116
        if (seen.st_dev, seen.st_ino) != (expected.st_dev, expected.st_ino):
            raise OSError(f"{path} is no longer the file that was opened")  # noqa: TRY301
        if owner is None:
            set_mount_attributes(mounted, _READ_ONLY)
            return mounted
        try:
            # The session runs as a user of its own: show it the file as its own.
            key = (seen.st_uid, seen.st_gid)
            if key not in owners:
                owners[key] = _owner_namespace(*key, owner)
            set_mount_attributes(mounted, _READ_ONLY | MOUNT_ATTR_IDMAP, user_namespace=owners[key])
        except OSError:  # a file system without such mounts: good enough if everybody may read the file
            needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(seen.st_mode) else 0)
            if seen.st_mode & needed != needed:
                raise
            set_mount_attributes(mounted, _READ_ONLY)
    except BaseException:
        os.close(mounted)
        raise
    return mounted


def _owner_namespace(user: int, group: int, owner: int) -> int:
    """Return a user namespace in which the file's owner is the session's user."""
    ready, wait = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            unshare(CLONE_NEWUSER)
            os.write(wait, b"1")
            signal.pause()
        finally:
            os._exit(1)
    os.close(wait)
    try:
        if not os.read(ready, 1):
            raise OSError("no user namespace for an input file")
        process = Path(f"/proc/{child}")
        (process / "uid_map").write_text(f"{user} {owner} 1")
        (process / "gid_map").write_text(f"{group} {owner} 1")
        return os.open(process / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
