"""What a session sees of files beyond the common root: its own disks, inputs, a folder, a certificate."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import copies, privileges
from .syscalls import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    attach_mount,
    mount,
    set_mount_attributes,
)

SCRATCH = "/scratch"
TMP = "/tmp"  # noqa: S108
SHM = "/dev/shm"  # noqa: S108
CERTIFICATE = "/run/authority.pem"
_PAGE = 4096
_QUIET = MS_NOSUID | MS_NODEV


def mount_scratch(
    limits: Mapping[str, int],
    below_tmp: Sequence[str],
    font_caches: Mapping[str, bytes],
    folder: int | None,
) -> None:
    """Mount what the session writes to.

    Args:
        limits: of the session.
        below_tmp: parts of the interpreter that a session's own `/tmp` would hide.
        font_caches: matplotlib's, by file name.
        folder: a mount that takes the place of the scratch folder.
    """
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", _QUIET | MS_NOEXEC, "subset=pid")
    # One disk, so that one quota holds for both folders; its top is covered by the first of them.
    user = f"mode=755,uid={privileges.USER_INSIDE},gid={privileges.GROUP_INSIDE}"
    quota = f"size={limits['disk_bytes']},nr_inodes={limits['inodes'] + 16}"
    mount("tmpfs", SCRATCH, "tmpfs", _QUIET, f"{user},{quota}")
    home, temporary = Path(SCRATCH, "home"), Path(SCRATCH, "tmp")
    home.mkdir(mode=0o700)
    temporary.mkdir(mode=0o700)
    # Opened first: afterwards the session's /tmp covers them.
    parts = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in below_tmp]
    mount(str(temporary), TMP, None, MS_BIND)
    if folder is None:
        mount(str(home), SCRATCH, None, MS_BIND)
    else:
        attach_mount(folder, SCRATCH)
    for path, descriptor in parts:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            Path(path).mkdir(parents=True, exist_ok=True)
        else:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
        mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | MS_REC)
        os.close(descriptor)
    caches = Path(os.environ["MPLCONFIGDIR"])
    caches.mkdir(parents=True, exist_ok=True)
    for name, content in font_caches.items():
        (caches / name).write_bytes(content)
    mount("tmpfs", SHM, "tmpfs", _QUIET | MS_NOEXEC, f"mode=700,size={limits['memory_bytes'] // 4}")


def mount_inputs(inputs: Sequence[Mapping[str, str]], bound: Sequence[bool], first_file: int) -> None:
    """Show the input files, read-only. Those that could not be bound are copied into memory.

    Args:
        inputs: their names.
        bound: which of them, and of the folder after them, there is a mount for.
        first_file: descriptor of the first of the files, which the mounts follow.
    """
    first_mount = first_file + len(bound)
    if inputs:
        folder = Path(SCRATCH, "inputs")
        folder.mkdir(exist_ok=True)
        sizes = [os.fstat(first_file + i).st_size for i in range(len(inputs)) if not bound[i]]
        if sum(sizes) > copies.MOST_BYTES:
            raise OSError(
                f"this kernel cannot bind the input files, and {sum(sizes):,} bytes are more than the "
                f"{copies.MOST_BYTES:,} that may be copied into memory"
            )
        room = sum(size + 2 * _PAGE for size in sizes) + (len(inputs) + 4) * _PAGE
        mount("tmpfs", str(folder), "tmpfs", _QUIET | MS_NOEXEC, f"mode=755,size={room}")
        for index, entry in enumerate(inputs):
            target = folder / entry["name"]
            if bound[index]:
                target.touch()
                attach_mount(first_mount + index, str(target))
            else:
                copies.copy_file(first_file + index, target)
        attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
        set_mount_attributes(str(folder), attributes)


def mount_certificate(certificate: str) -> None:
    """Show the certificate of the way out where only whoever mounts could change it."""
    place = Path(CERTIFICATE)
    mount("tmpfs", str(place.parent), "tmpfs", _QUIET | MS_NOEXEC, "mode=755,size=256k")
    place.write_text(certificate)
    place.chmod(0o444)
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    set_mount_attributes(str(place.parent), attributes)
