"""The account that PostgreSQL runs under: the person's own, or an unprivileged one when started as root.

PostgreSQL refuses to run as root. Nothing here loosens the rights of a folder that already exists.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pythonic_assistant.domain.errors import ConfigurationError

SYSTEM_ACCOUNT = "pythonic-postgres"
SYSTEM_FOLDER = Path("/var/lib/pythonic-assistant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of the operating system.

    Attributes:
        name: as `whoami` prints it.
        uid: its number.
        gid: the number of its main group.
        switched: whether a child has to change to it, because this process is root.
    """

    name: str
    uid: int
    gid: int
    switched: bool

    def may_traverse(self, folder: Path) -> bool:
        """Whether the account can reach what is in `folder` and in all folders above it."""
        return all(self._may(path, 0o1) for path in (folder, *folder.parents) if path.exists())

    def _may(self, path: Path, bit: int) -> bool:
        status = path.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & (bit << 6))
        if status.st_gid == self.gid:
            return bool(status.st_mode & (bit << 3))
        return bool(status.st_mode & bit)


def name_of_this_user() -> str:
    """The name of the user that this process runs as.

    Raises:
        ConfigurationError: the user has no entry in the account database; PostgreSQL needs one.
    """
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise ConfigurationError(
            f"User number {os.geteuid()} has no name on this machine, and PostgreSQL needs one: add it to "
            "/etc/passwd, or run as a user that has one."
        ) from error


def database_account() -> Account:
    """The account for PostgreSQL; as root it is made on first use.

    Raises:
        ConfigurationError: no such account, and none can be made.
    """
    name = name_of_this_user()
    if os.geteuid() != 0:
        return Account(name=name, uid=os.geteuid(), gid=os.getegid(), switched=False)
    try:
        entry = pwd.getpwnam(SYSTEM_ACCOUNT)
    except KeyError:
        _create()
        entry = pwd.getpwnam(SYSTEM_ACCOUNT)
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, switched=True)


def _create() -> None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    advice = (
        f"run as an ordinary user, or create the system user {SYSTEM_ACCOUNT} yourself (no home, no login)."
    )
    if useradd is None:
        raise ConfigurationError(f"PostgreSQL refuses to run as root, and there is no useradd here: {advice}")
    command = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    done = subprocess.run(
        [*command, "--shell", "/usr/sbin/nologin", SYSTEM_ACCOUNT],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode not in (0, 9):  # 9: another process made it in the same moment
        raise ConfigurationError(
            f"PostgreSQL refuses to run as root, and useradd failed ({done.stderr.strip()}): {advice}"
        )
