"""The one running page process, and how its scripts reach its event loop.

Streamlit runs scripts in threads of their own; everything that talks to the network lives on the server's
event loop. A script hands it a coroutine and waits.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from live.accounts import Accounts
from live.hub import Hub
from live.sessions import COOKIE, SessionBook
from live.wording import UNREACHABLE
from pythonic_assistant.domain.errors import StoreUnavailableError
from pythonic_assistant.settings import Secret

_Result = TypeVar("_Result")
_WAIT_SECONDS = 30.0
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalUser:
    """The one account of the embedded Supabase."""

    email: str
    password: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRuntime:
    """What the pages share.

    Attributes:
        local_user: set only with the embedded Supabase; then nobody types a password.
        port: of the page; part of the cookie's name, because browsers share cookies between ports.
    """

    loop: asyncio.AbstractEventLoop
    accounts: Accounts
    book: SessionBook
    hub: Hub
    local_user: LocalUser | None
    port: int

    @property
    def cookie(self) -> str:
        """The name of the session's cookie."""
        return f"{COOKIE}_{self.port}"

    def run(self, work: Coroutine[Any, Any, _Result], *, seconds: float = _WAIT_SECONDS) -> _Result:
        """Run a coroutine on the event loop from a script's thread and give its result.

        Raises:
            StoreUnavailableError: not done in time.
        """
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(seconds)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError) as error:
            future.cancel()
            raise StoreUnavailableError(UNREACHABLE) from error


_current: PageRuntime | None = None


def set_runtime(runtime: PageRuntime | None) -> None:
    """Make this the process's runtime."""
    global _current
    _current = runtime


def runtime() -> PageRuntime:
    """The process's runtime.

    Raises:
        RuntimeError: the page was not started with `python -m live`.
    """
    if _current is None:
        raise RuntimeError("Start the page with `python -m live`, or everything with `make run`.")
    return _current
