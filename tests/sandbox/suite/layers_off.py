"""The sandbox with one layer taken off, to show that the attacks bite.

The product has no switch for this. A copy of what runs inside is made in a temporary folder, a few lines are
added to it that undo one layer, and this process, and no other, starts its zygote from there.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from pythonic_assistant.adapters.sandbox import zygote_process
from tests.sandbox.suite.attack import Layer

_INSIDE = Path(zygote_process.__file__).parent / "inside"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOff:
    """A layer, and how it is undone.

    Attributes:
        added: Python that is appended to modules of the copy, by file name.
        bites: attacks that must get through without it.
    """

    layer: Layer
    added: Mapping[str, str]
    bites: tuple[str, ...]


_NOTHING = "\n\ndef {name}(*_args, **_names):\n    return None\n"
# The process table of the host, where a session mounts one of its own.
_HOSTS_PROCESSES = """

CLONE_NEWPID = 0
_mount = mount


def mount(source, target, kind, flags, options=None):
    if kind != "proc":
        _mount(source, target, kind, flags, options)
    elif target != "/proc":
        _mount("/old/proc", target, None, MS_BIND | MS_REC)
"""
_COUNTS_NOTHING = """

def in_pid_namespace(exact, **_disks):
    return 0
"""
_HOSTS_FILES = """

SYSTEM = (*(path for path in SYSTEM if not path.startswith("/etc/")), "/etc", "/var")
FILES = {}
"""

LAYERS: tuple[LayerOff, ...] = (
    LayerOff(
        layer="seccomp",
        added={"seccomp.py": _NOTHING.format(name="install")},
        bites=(
            "user namespace",
            "clone into namespaces",
            "io_uring",
            "userfaultfd",
            "keyring",
            "ptrace at all",
            "compare kernel objects",
            "memory file",
            "sockets of vsock",
            "sockets of netlink",
            "32-bit calls",
            "pipe",
        ),
    ),
    LayerOff(
        layer="landlock",
        added={"landlock.py": _NOTHING.format(name="restrict")},
        bites=("choice of victims when memory ends",),
    ),
    LayerOff(
        layer="network",
        added={"syscalls.py": "\n\nCLONE_NEWNET = 0\n"},
        bites=("loopback of the host", "any address of the host"),
    ),
    LayerOff(
        layer="processes",
        # The session's init would count the memory of all processes that it sees, and those are the host's.
        added={"syscalls.py": _HOSTS_PROCESSES, "memory.py": _COUNTS_NOTHING},
        bites=("foreign processes", "processes of a peer"),
    ),
    LayerOff(
        layer="root",
        added={"root.py": _HOSTS_FILES},
        bites=(
            "host file",
            "real password file",
            "out by dots",
            "out by a symlink",
            "socket file of the host",
        ),
    ),
    LayerOff(
        layer="capabilities",
        added={"privileges.py": "\n\ndef drop_all_capabilities():\n    prctl(PR_SET_NO_NEW_PRIVS, 1)\n"},
        bites=("any capability", "raw ip"),
    ),
    LayerOff(
        layer="limits",
        added={"privileges.py": _NOTHING.format(name="limit")},
        bites=("descriptors", "fork bomb", "thread bomb"),
    ),
)


@contextmanager
def without(layer: LayerOff) -> Generator[None, None, None]:
    """Zygotes that this process starts meanwhile lack the layer."""
    with tempfile.TemporaryDirectory(prefix="one-layer-off-") as folder:
        copy = Path(folder, "inside")
        shutil.copytree(_INSIDE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in layer.added.items():
            with (copy / name).open("a") as module:
                module.write(text)
        with mock.patch.object(zygote_process, "__file__", str(Path(folder, "zygote_process.py"))):
            yield
