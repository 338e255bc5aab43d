"""asyncpg, as much of it as is used here, with types: the package has none of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - that is why this module exists

Row = Mapping[str, Any]

DatabaseError: type[Exception] = asyncpg.PostgresError
NotAllowedError: type[Exception] = asyncpg.InsufficientPrivilegeError
UNREACHABLE: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
)
"""What any call may raise while the server is away or on its way down."""


class Transaction(AbstractAsyncContextManager[Any], Protocol):
    """A transaction, or a savepoint within one."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def rollback(self) -> None:
        """Undo."""
        ...


class Connection(Protocol):
    """One session of the database."""

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement, or a script if there are no arguments."""
        ...

    async def fetch(self, query: str, *args: object) -> list[Row]:
        """Return all rows."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Row | None:
        """Return the first row."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:
        """Return the first column of the first row."""
        ...

    def transaction(self) -> Transaction:
        """A transaction to enter."""
        ...


class Session(Connection, Protocol):
    """A connection that its user opened and closes."""

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None:
        """LISTEN; the callback is told connection, process id, channel and payload."""
        ...

    def add_termination_listener(self, callback: Callable[..., None]) -> None:
        """Be told when the connection is lost."""
        ...

    async def close(self) -> None:
        """Say goodbye."""
        ...


class Pool(Protocol):
    """Connections that are kept."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Connection]:
        """Borrow one."""
        ...

    def terminate(self) -> None:
        """Cut all connections off."""
        ...


async def connect(socket_folder: str, user: str) -> Session:
    """Open a connection over a Unix socket.

    Raises:
        one of `UNREACHABLE`.
    """
    driver = cast(Any, asyncpg)
    return cast(Session, await driver.connect(host=socket_folder, user=user, database="postgres", timeout=10))


async def create_pool(socket_folder: str, user: str, *, largest: int) -> Pool:
    """Make a pool that opens connections when they are needed; connecting and each statement have a bound."""
    driver = cast(Any, asyncpg)
    pool = await driver.create_pool(
        host=socket_folder,
        user=user,
        database="postgres",
        min_size=0,
        max_size=largest,
        timeout=10,
        command_timeout=10,
    )
    return cast(Pool, pool)
