"""Control groups: the kernel counts a session's memory and processes itself, where it lets us make groups.

Version 1 (Documentation/admin-guide/cgroup-v1/memory.rst, pids.rst) and version 2
(Documentation/admin-guide/cgroup-v2.rst). What is possible is found out by doing it once.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PREFIX = "pythonic-"
# For page tables and sockets, which the limit of a session does not mean.
_OVERHEAD_BYTES = 16 << 20
_OWN_PROCESSES = 1  # the REPL comes on top of the limit; init is not in the group
_REMOVE_SECONDS = 2.0
_REMOVE_PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """A folder of the cgroup file system below which we may make groups.

    Attributes:
        folder: our own group.
        controllers: those that count here: "memory", "pids".
        version: 1 or 2.
    """

    folder: Path
    controllers: frozenset[str]
    version: int

    def settings(self, memory_bytes: int, processes: int) -> dict[str, int]:
        """Return what is written into a new group, in order; names that end in "?" may be missing."""
        found: dict[str, int] = {}
        memory = memory_bytes + _OVERHEAD_BYTES
        if "memory" in self.controllers and self.version == 1:
            found = {
                "memory.limit_in_bytes": memory,
                "memory.memsw.limit_in_bytes?": memory,
                "memory.swappiness?": 0,
            }
        elif "memory" in self.controllers:
            found = {"memory.max": memory, "memory.swap.max?": 0}
        if "pids" in self.controllers:
            found["pids.max"] = processes + _OWN_PROCESSES
        return found

    @property
    def counter(self) -> str:
        """The file that tells how many processes ended because memory ran out."""
        return "memory.oom_control" if self.version == 1 else "memory.events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of one session, in every hierarchy."""

    places: tuple[tuple[Hierarchy, Path], ...]

    def limit(self, memory_bytes: int, processes: int) -> None:
        """Set the limits, before anybody is in."""
        for hierarchy, folder in self.places:
            for name, value in hierarchy.settings(memory_bytes, processes).items():
                try:
                    (folder / name.rstrip("?")).write_text(str(value))
                except OSError as error:
                    if not name.endswith("?") or error.errno not in (errno.ENOENT, errno.EACCES):
                        raise

    def add(self, process: int) -> None:
        """Put a process in; its later children are in as well."""
        for _, folder in self.places:
            (folder / "cgroup.procs").write_text(str(process))

    def counter(self) -> int:
        """Return a descriptor from which `deaths` reads."""
        for hierarchy, folder in self.places:
            if "memory" in hierarchy.controllers:
                return os.open(folder / hierarchy.counter, os.O_RDONLY | os.O_CLOEXEC)
        raise FileNotFoundError("no hierarchy counts memory")

    def remove(self) -> bool:
        """Remove the group; False while somebody is in it."""
        for _, folder in self.places:
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Makes groups.

    Args:
        hierarchies: where; one counts memory.
    """

    hierarchies: tuple[Hierarchy, ...]

    @property
    def version(self) -> int:
        """Of the hierarchy that counts memory."""
        return next(found.version for found in self.hierarchies if "memory" in found.controllers)

    def make(self, memory_bytes: int, processes: int) -> Group:
        """Make a group with limits.

        Raises:
            OSError: the kernel refuses.
        """
        name = f"{PREFIX}{os.getpid()}-{os.urandom(6).hex()}"
        group = Group(places=tuple((found, found.folder / name) for found in self.hierarchies))
        try:
            for _, folder in group.places:
                folder.mkdir()
            group.limit(memory_bytes, processes)
        except BaseException:
            group.remove()
            raise
        return group

    def remove_left(self) -> None:
        """Remove the groups of zygotes that were killed; those in use cannot be removed."""
        for hierarchy in self.hierarchies:
            for folder in hierarchy.folder.glob(f"{PREFIX}*"):
                owner = folder.name.removeprefix(PREFIX).partition("-")[0]
                if not Path("/proc", owner).exists():
                    Group(places=((hierarchy, folder),)).remove()


def deaths(counter: int) -> int:
    """Return how many processes of a group ended because its memory ran out."""
    for line in os.pread(counter, 4096, 0).splitlines():
        name, _, value = line.partition(b" ")
        if name == b"oom_kill":
            return int(value)
    return 0


def find(proc: Path = Path("/proc")) -> Groups | None:
    """Return a way to make groups that was tried out, or None where there is none.

    Args:
        proc: where the process file system is.
    """
    try:
        hierarchies = tuple(hierarchies_of(proc))
    except OSError:  # a kernel without control groups
        return None
    if not any("memory" in found.controllers for found in hierarchies):
        return None
    groups = Groups(hierarchies=hierarchies)
    try:
        _try_out(groups)
    except OSError:
        return None
    groups.remove_left()
    return groups


def hierarchies_of(proc: Path) -> Iterator[Hierarchy]:
    """Yield where this process could make groups; not tried out."""
    own: dict[str, str] = {}
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        own |= dict.fromkeys(names.split(","), path)
    taken: set[str] = set()
    for line in (proc / "self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, place = before.split()[3:5]
        if kind == "cgroup":
            # Not "pids": it would be a second group to enter, and RLIMIT_NPROC counts as well.
            names = set(options.split(" ")[-1].split(",")) & {"memory"} & own.keys()
            paths, version = {own[name] for name in names}, 1
        elif kind == "cgroup2" and "" in own:
            paths, version = {own[""]}, 2
            names = {"memory", "pids"}
        else:
            continue
        for path in paths:
            folder = _below(Path(place), root, path)
            if version == 2:
                names = names & _delegated(folder)
            if folder.is_dir() and names and not names & taken:
                taken |= names
                yield Hierarchy(folder=folder, controllers=frozenset(names), version=version)


def _below(place: Path, root: str, path: str) -> Path:
    """Return where a group is found, when `root` is what is mounted at a place."""
    try:
        return place / Path(path).relative_to(root)
    except ValueError:  # a container that sees the path of its host
        return place


def _delegated(folder: Path) -> set[str]:
    """Return the controllers that new groups of version 2 have.

    Only those that are switched on already: to switch one on, we would have to move every process out of
    our group, also those that are not ours.
    """
    try:
        return set((folder / "cgroup.subtree_control").read_text().split())
    except OSError:
        return set()


def _try_out(groups: Groups) -> None:
    """Put a process into a group and take it out again.

    Raises:
        OSError: not possible.
    """
    group = groups.make(32 << 20, 1)
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        os.read(heard, 1)
        os._exit(0)
    try:
        group.add(child)
        os.close(group.counter())
    finally:
        os.close(heard)
        os.close(told)
        os.waitpid(child, 0)
        remove(group)


def remove(group: Group) -> None:
    """Remove a group whose processes are just ending."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while not group.remove() and time.monotonic() < deadline:
        time.sleep(_REMOVE_PAUSE_SECONDS)


def sizes(limits: Mapping[str, int]) -> tuple[int, int]:
    """Return what `Groups.make` wants to know of a session's limits."""
    return limits["memory_bytes"], limits["processes"]
