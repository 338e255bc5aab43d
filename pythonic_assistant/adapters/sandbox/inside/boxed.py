"""A session inside of walls that bubblewrap has made: prepared ahead, for one request.

For hosts where bwrap may make namespaces and what it starts may not, such as Ubuntu with its AppArmor
profile. Everything that needs mounts is done by bwrap's arguments; see `bwrap_command.py` of the host's side.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

from . import frames, landlock, preload, privileges, session
from .syscalls import PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl

_SCRATCH = "/scratch"
_OWN = (_SCRATCH, "/tmp", "/dev/shm")  # noqa: S108
_ALREADY_THERE = 64  # the disks' own folders, the interpreter's places below /tmp, matplotlib's caches
_STREAMS = 4  # connection, control, stdout, stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the owner passes on the command line.

    Attributes:
        job: descriptor of the socket to the owner: brings one request, and its end is the box's end.
        site_packages, preload: see `preload.import_all`.
        become: whether to turn from the namespace's root into the session's user first.
        folder: whether `/scratch` is a read-only folder of the host.
        packages: folder of additional packages, of which `current/` is put on the path last; or None.
    """

    job: int
    site_packages: tuple[str, ...]
    preload: tuple[str, ...]
    become: bool
    folder: bool
    packages: str | None = None


def main(argument: str) -> NoReturn:
    """Become a box, then a session; never returns."""
    settings = Settings(**json.loads(argument))
    job = socket.socket(fileno=settings.job)
    try:
        if settings.become:
            _become_user(settings)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # afterwards: changing users clears it
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        preload.import_all(settings.site_packages, settings.preload)
        gc.collect()
        frames.send(job, {"event": "ready", "landlock": landlock.version()})
    except BaseException as error:  # noqa: BLE001  (reported to the owner, who raises it)
        text = "".join(traceback.format_exception_only(error)).strip()
        frames.send(job, {"event": "refused", "error": text})
        os._exit(1)
    try:
        request, descriptors = frames.receive(job, _STREAMS)
    except (EOFError, OSError):
        os._exit(0)  # never needed
    job.close()
    if settings.packages is not None:
        # Looked up now: what was added since the box was prepared is found as well.
        current = os.path.realpath(f"{settings.packages}/current")
        if os.path.isdir(current):  # noqa: PTH112
            sys.path.append(current)
    _run(request, descriptors)


def _become_user(settings: Settings) -> None:
    for folder in _OWN[1:] if settings.folder else _OWN:
        os.chown(folder, privileges.USER_INSIDE, privileges.GROUP_INSIDE)
    privileges.clear_bounding_set()
    privileges.become_inside()


def _run(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    connection = socket.socket(fileno=descriptors[0])
    try:
        data_bytes = session.data_in_use()
        limits: dict[str, int] = request["limits"]
        connection = session.settle(connection, descriptors[1:], [])
        privileges.limit(resource.RLIMIT_NPROC, limits["processes"] + 2)  # init and REPL come on top
        session.close_walls(limits, data_bytes)
        scratch = os.open(_SCRATCH, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # A disk that bwrap makes has no limit of its own; what is there already is not the code's.
        session.begin(connection, scratch, request, inodes=limits["inodes"] + _ALREADY_THERE)
    except BaseException as error:  # noqa: BLE001  (reported to the host, which raises it)
        session.fail(connection, error)
