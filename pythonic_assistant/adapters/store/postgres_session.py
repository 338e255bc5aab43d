"""Sessions of PostgreSQL itself: asyncpg with types, settings of every session, errors in words."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol, cast
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - the protocol below is as much of it as is used

from pythonic_assistant.adapters.store.calls import is_transient
from pythonic_assistant.domain.errors import ConfigurationError, InvalidInputError, StoreUnavailableError

CONNECT_SECONDS: Final = 10.0
STATEMENT_SECONDS: Final = 12.0
"""After which the server gives up a statement: before the caller does, so that none runs on unseen."""
TRANSACTION_POOLER_PORT: Final = 6543
"""Where Supabase's pooler, Supavisor, hands out a session of PostgreSQL for one transaction at a time:
https://supabase.com/docs/guides/database/connecting-to-postgres"""
PROBE_SECONDS: Final = 3.0
"""In which a notification arrives if it ever does; it takes some milliseconds."""
ROLE: Final = "service_role"
"""What a worker may do over the API, and no more, whoever the address signs in as."""

_IDLE_SECONDS, _PROBE_SECONDS, _PROBES = 10, 5, 3
"""A peer that vanished without a word is noticed after 25 seconds of silence."""


Refusal: type[Exception] = cast("Any", asyncpg).PostgresError
"""What the server itself answers; the session is as good as before."""


class Session(Protocol):
    """One session of the database."""

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement, or a script if there are no arguments."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Any:
        """Return the first row."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:
        """Return the first column of the first row."""
        ...

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None:
        """LISTEN; the callback is told connection, process id, channel and payload."""
        ...

    def add_termination_listener(self, callback: Callable[..., None]) -> None:
        """Be told when the connection is lost."""
        ...

    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        ...

    async def close(self) -> None:
        """Say goodbye."""
        ...

    def terminate(self) -> None:
        """Cut it off."""
        ...


async def open_session(url: str, *, by_transaction: bool) -> Session:
    """Connect, and become the role of workers.

    Args:
        by_transaction: the pooler gives another session of PostgreSQL to each transaction: nothing can be
            set, prepared or held beyond one, and the session is as `connect` makes it.

    Raises:
        StoreUnavailableError: the database cannot be reached, or does not let us in.
        ConfigurationError: the user of the address may not act as the role of workers.
    """
    session = await connect(url, bare=by_transaction)
    if by_transaction:
        return session
    try:
        with in_words("prepare a session"):
            async with asyncio.timeout(CONNECT_SECONDS):
                await _prepare(session)
    except BaseException:
        session.terminate()
        raise
    return session


async def connect(url: str, *, bare: bool) -> Session:
    """Connect, and set nothing.

    Args:
        bare: nothing is prepared on the server either.

    Raises:
        StoreUnavailableError: the database cannot be reached, or does not let us in.
        ConfigurationError: the address makes no sense.
    """
    options: dict[str, Any] = {"timeout": CONNECT_SECONDS}
    if bare:
        options["statement_cache_size"] = 0
    if _hosted(url) and "sslmode" not in parse_qs(urlsplit(url).query):
        options["ssl"] = "require"
    driver = cast("Any", asyncpg)
    try:
        with in_words("let the worker in", refusals=False):
            session = cast("Session", await driver.connect(url, **options))
    except StoreUnavailableError as error:
        if isinstance(error.__cause__, driver.ClientConfigurationError):
            raise ConfigurationError(f"SUPABASE_DB_URL cannot be used: {error.__cause__}.") from error
        raise
    _keep_alive(session)
    return session


async def is_pooled_by_transaction(url: str) -> bool:
    """Find out by doing whether a session of ours is one session of PostgreSQL.

    One connection listens, another notifies: a pooler in transaction mode has taken the first one's session
    away by then. Its usual port is believed without trying.

    Raises:
        StoreUnavailableError: the database cannot be reached, or does not let us in.
    """
    if _has_pooler_port(url):
        return True
    channel = f"pythonic_probe_{uuid4().hex}"
    heard = asyncio.Event()
    listening = await connect(url, bare=True)
    try:
        notifying = await connect(url, bare=True)
        try:
            with in_words("notify"):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await listening.add_listener(channel, lambda *_: heard.set())
                    await notifying.execute(f"notify {channel}")
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await heard.wait()
            except TimeoutError:
                return True
            return False
        finally:
            notifying.terminate()
    finally:
        listening.terminate()


async def _prepare(session: Session) -> None:
    settings = {
        "application_name": "pythonic worker",
        "statement_timeout": f"{STATEMENT_SECONDS:g}s",
        "idle_in_transaction_session_timeout": "30s",
        # The server's side: locks of a worker whose machine is gone are free again soon.
        "tcp_keepalives_idle": str(_IDLE_SECONDS),
        "tcp_keepalives_interval": str(_PROBE_SECONDS),
        "tcp_keepalives_count": str(_PROBES),
    }
    names = ", ".join(f"set_config(${2 * n + 1}, ${2 * n + 2}, false)" for n in range(len(settings)))
    await session.fetchrow(f"select {names}", *(word for pair in settings.items() for word in pair))
    try:
        await session.execute(f"set role {ROLE}")
    except cast("Any", asyncpg).InsufficientPrivilegeError as error:
        raise ConfigurationError(
            f"The user of SUPABASE_DB_URL may not act as {ROLE}: use the user postgres, or run "
            f"`grant {ROLE} to` that user."
        ) from error


def _keep_alive(session: Session) -> None:
    """Let the kernel ask whether the other side is still there."""
    transport = getattr(session, "_transport", None)
    connected = transport.get_extra_info("socket") if transport is not None else None
    if connected is None or connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (
        ("TCP_KEEPIDLE", _IDLE_SECONDS),
        ("TCP_KEEPINTVL", _PROBE_SECONDS),
        ("TCP_KEEPCNT", _PROBES),
    ):
        if (option := getattr(socket, name, None)) is not None:  # macOS has no TCP_KEEPIDLE
            connected.setsockopt(socket.IPPROTO_TCP, option, seconds)


def _hosted(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host.endswith((".supabase.co", ".supabase.com"))


def _has_pooler_port(url: str) -> bool:
    with suppress(ValueError):
        return urlsplit(url).port == TRANSACTION_POOLER_PORT
    return False


@contextmanager
def in_words(what: str, *, refusals: bool = True) -> Generator[None]:
    """Translate the errors of asyncpg.

    Args:
        what: what was asked of the database, for the message.
        refusals: whether the database may refuse for good; else whatever it says may change.

    Raises:
        StoreUnavailableError: no answer, or one that may be another later.
        InvalidInputError: the database refuses the values; its own sentence is the message.
    """
    driver = cast("Any", asyncpg)
    try:
        yield
    except driver.PostgresError as error:
        code, words = str(getattr(error, "sqlstate", "") or ""), str(getattr(error, "message", "") or error)
        if is_transient(code) or not refusals:
            raise StoreUnavailableError(f"PostgreSQL could not {what}: {words}.") from error
        raise InvalidInputError(words) from error
    except (TimeoutError, OSError, driver.InterfaceError, driver.InternalClientError) as error:
        raise StoreUnavailableError(
            f"PostgreSQL did not answer when asked to {what}: {str(error) or type(error).__name__}."
        ) from error
