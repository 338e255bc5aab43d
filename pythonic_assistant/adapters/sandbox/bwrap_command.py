"""The arguments of bubblewrap for one box: the same root as `inside/root.py` builds. See bwrap(1)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pythonic_assistant.adapters.sandbox import interpreter
from pythonic_assistant.adapters.sandbox.inside import privileges, root
from pythonic_assistant.adapters.sandbox.inside.disks import CERTIFICATE

INSIDE = Path(__file__).parent / "inside"
INSIDE_SHOWN = "/run/inside"
_ROOT_BYTES = 4 << 20
_MOUNTED = ("/dev/shm", "/proc", "/scratch")  # noqa: S108


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What of a box is settled when it starts.

    Attributes:
        disk_bytes: of the scratch folder, and of `/tmp`.
        shared_bytes: of `/dev/shm`.
        folder: a folder of the host that is shown read-only as the scratch folder; None for an empty one.
    """

    disk_bytes: int
    shared_bytes: int
    folder: str | None = None


def arguments(
    shape: Shape,
    *,
    inputs: Path,
    certificate: Path,
    packages: Path | None,
    files: Mapping[str, int],
    as_root: bool,
) -> list[str]:
    """Return bwrap's arguments, up to the command.

    Args:
        shape: of the box.
        inputs: folder of the host that is shown read-only as `/scratch/inputs`.
        certificate: file of the host, shown read-only, which is filled when a session gets a way out.
        packages: folder of additional packages, shown at its place.
        files: by their path inside, descriptors from which small files are filled.
        as_root: whether the command starts as the namespace's root, to become the session's user itself.
    """
    words = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--die-with-parent", "--as-pid-1", "--new-session", "--clearenv"]
    words += ["--hostname", "sandbox", "--cap-drop", "ALL"]
    if as_root:
        for capability in ("CAP_CHOWN", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"):
            words += ["--cap-add", capability]
    else:
        words += ["--uid", str(privileges.USER_INSIDE), "--gid", str(privileges.GROUP_INSIDE)]
    words += _disk("/tmp", shape.disk_bytes, "0700")  # noqa: S108  (first: the interpreter may live below)
    shown = [*_system_paths(), (str(INSIDE), INSIDE_SHOWN), (str(certificate), CERTIFICATE)]
    if packages is not None:
        shown.append((str(packages), str(packages)))
    words += _parents([place for _, place in shown])
    for source, place in shown:
        words += _show(source, place)
    words += _devices(shape.shared_bytes)
    words += _parents([f"{folder}/any" for folder in root.FOLDERS if folder not in _MOUNTED])
    for path, descriptor in files.items():
        words += ["--perms", "0644", "--file", str(descriptor), path]
    words += ["--proc", "/proc"]
    if shape.folder is None:
        words += _disk("/scratch", shape.disk_bytes, "0700")
    else:
        words += ["--ro-bind", shape.folder, "/scratch"]
    if shape.folder is None or Path(shape.folder, "inputs").is_dir():
        words += ["--ro-bind", str(inputs), "/scratch/inputs"]
    return [*words, "--remount-ro", "/", "--chdir", "/"]


def small_files() -> Sequence[tuple[str, bytes]]:
    """Return path and content of the files that are made up for sessions."""
    return [(path, text.encode()) for path, text in root.FILES.items()]


def _disk(path: str, size: int, mode: str) -> list[str]:
    return ["--perms", mode, "--size", str(size), "--tmpfs", path]


def _parents(places: Iterable[str]) -> list[str]:
    """Make the folders above some places; those that bwrap makes by itself only root could enter."""
    words: list[str] = []
    for folder in dict.fromkeys(str(above) for place in places for above in reversed(Path(place).parents)):
        if folder != "/":
            words += ["--perms", "0755", "--dir", folder]
    return words


def _show(source: str, place: str) -> list[str]:
    if os.path.islink(source) and source == place:  # noqa: PTH114
        return ["--symlink", os.readlink(source), place]  # noqa: PTH115
    return ["--ro-bind", source, place]


def _system_paths() -> list[tuple[str, str]]:
    """Return what of the host is shown and where, none of it inside of another."""
    found = [(path, path) for path in root.SYSTEM if os.path.lexists(path)]
    for path in interpreter.python_paths():
        real = os.path.realpath(path)
        for place in dict.fromkeys((path, real)):
            if not any(Path(place).is_relative_to(other) for _, other in found):
                found.append((real, place))
    return found


def _devices(shared_bytes: int) -> list[str]:
    words = _disk("/dev", _ROOT_BYTES, "0755")
    for name in root.DEVICES:
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for path, target in root.LINKS.items():
        words += ["--symlink", target, path]
    return [*words, *_disk("/dev/shm", shared_bytes, "0700"), "--remount-ro", "/dev"]  # noqa: S108
