"""Additional packages of an installation: what is there, and how another set takes its place.

    <folder>/current -> versions/<name>      switched by one rename(2)
    <folder>/versions/<name>/                what sessions have on their path, and `list.txt`
    <folder>/list.txt -> current/list.txt    what was asked for

The newest versions but one stay: a session that has begun goes on importing from its own.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pythonic_assistant.domain.errors import ConfigurationError

_LIST = "list.txt"
_KEPT_VERSIONS = 2


class PackageFolder:
    """The folder that sessions are shown read-only.

    Args:
        path: of the folder; made when something is put there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def wanted(self) -> tuple[str, ...]:
        """Return what was asked for, one requirement each."""
        try:
            return tuple((self.path / "current" / _LIST).read_text(encoding="utf-8").split("\n")[:-1])
        except FileNotFoundError:
            return ()

    def make(self) -> None:
        """Make the folder, which the users of sessions have to be able to enter.

        Raises:
            ConfigurationError: it cannot be made.
        """
        try:
            (self.path / "versions").mkdir(parents=True, exist_ok=True)
            for folder in (self.path, self.path / "versions"):
                folder.chmod(0o755)
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be made ({error.strerror}).") from error

    @contextmanager
    def alone(self) -> Generator[None, None, None]:
        """Keep others from changing the packages meanwhile; the kernel lets go however this process ends.

        Raises:
            ConfigurationError: somebody is changing them already.
        """
        self.make()
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigurationError(
                    "Another command is changing the packages of the sandbox: wait for its end."
                ) from error
            yield

    @contextmanager
    def stage(self) -> Generator[Path, None, None]:
        """Yield a fresh folder that looks like this one, with an empty `current/`; removed afterwards."""
        self._sweep()
        stage = self.path / f"stage-{secrets.token_hex(4)}"
        (stage / "current").mkdir(parents=True)
        self.open_to_all(stage)
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def open_to_all(self, stage: Path) -> None:
        """Let everybody read a stage, whatever the umask was: sessions have users of their own."""
        for path in (stage, *stage.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)

    def switch(self, stage: Path, wanted: Sequence[str]) -> None:
        """Put what is in a stage in the place of what is there, at once for all sessions from now on.

        Args:
            stage: from `stage`, open to all.
            wanted: what was asked for.
        """
        fresh = stage / "current"
        (fresh / _LIST).write_text("".join(f"{line}\n" for line in wanted), encoding="utf-8")
        (fresh / _LIST).chmod(0o644)
        number = max((int(path.name) for path in self._versions()), default=0) + 1
        target = self.path / "versions" / f"{number:06d}"
        fresh.rename(target)
        link = stage / "link"
        link.symlink_to(target.relative_to(self.path))
        link.replace(self.path / "current")
        told = self.path / _LIST
        if not told.is_symlink():
            told.symlink_to(Path("current", _LIST))
        self._sweep()

    def _versions(self) -> list[Path]:
        return sorted(path for path in (self.path / "versions").iterdir() if path.name.isdigit())

    def _sweep(self) -> None:
        """Remove old versions, and what a command left that was killed."""
        current = Path(os.path.realpath(self.path / "current"))
        for version in self._versions()[:-_KEPT_VERSIONS]:
            if version != current.resolve():
                shutil.rmtree(version, ignore_errors=True)
        for stage in self.path.glob("stage-*"):
            shutil.rmtree(stage, ignore_errors=True)
