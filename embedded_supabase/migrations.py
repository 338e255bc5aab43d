"""Applies `supabase/migrations/*.sql`, each in one transaction, and records them as the Supabase CLI does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from embedded_supabase.sql import Connection, DatabaseError
from pythonic_assistant.domain.errors import ConfigurationError

BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")
_NAME = re.compile(r"(?P<version>\d{14})_(?P<name>.+)\.sql")
_ADVISORY_LOCK = 0x70797468  # "pyth": one process migrates at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file of migrations.

    Attributes:
        version: fourteen digits, the order.
        name: what follows them.
        path: the file.
    """

    version: str
    name: str
    path: Path


def migrations_in(folder: Path) -> tuple[Migration, ...]:
    """The migrations of a folder, oldest first.

    Raises:
        ConfigurationError: no such folder, or a file whose name is not `<14 digits>_<name>.sql`.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"There is no folder {folder} with migrations.")
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise ConfigurationError(f"{path} is not named <14 digits>_<name>.sql.")
        found.append(Migration(version=match["version"], name=match["name"], path=path))
    return tuple(found)


async def bootstrap(connection: Connection) -> None:
    """Make what hosted Supabase has before the first migration; may be repeated."""
    await connection.execute("set client_min_messages = warning")
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
        await connection.execute(BOOTSTRAP.read_text())


async def migrate(connection: Connection, folder: Path) -> tuple[Migration, ...]:
    """Apply what has not been applied yet, and return it.

    Raises:
        ConfigurationError: a migration is wrong; nothing of it was kept.
    """
    rows = await connection.fetch("select version from supabase_migrations.schema_migrations")
    done = {row["version"] for row in rows}
    pending = tuple(entry for entry in migrations_in(folder) if entry.version not in done)
    for entry in pending:
        text = entry.path.read_text()
        try:
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
                await connection.execute(text)
                await connection.execute(
                    "insert into supabase_migrations.schema_migrations (version, name, statements) "
                    "values ($1, $2, $3)",
                    entry.version,
                    entry.name,
                    [text],
                )
        except DatabaseError as error:
            raise ConfigurationError(f"The migration {entry.path.name} failed: {error}") from error
    return pending
