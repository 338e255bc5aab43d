"""One call to Supabase: a deadline, and the client's many errors as the few of the project's tree."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from typing import TypeVar

import httpx
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError

from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError

Result = TypeVar("Result")

DEADLINE_SECONDS = 15.0
"""Longer than a healthy call by two orders of magnitude, and no longer than a lease."""

_TRANSIENT_SQLSTATE_CLASSES = ("08", "25", "40", "53", "54", "55", "57", "58", "XX")
"""Connection, transaction state (read-only while a project is moved), rollback, resources, limits, not in the
needed state (lock), operator intervention, system, internal:
https://www.postgresql.org/docs/current/errcodes-appendix.html"""


async def call(what: str, awaitable: Awaitable[Result], *, deadline: float = DEADLINE_SECONDS) -> Result:
    """Await a call of the Supabase client.

    Args:
        what: the call in words, for the message of an error.
        deadline: in seconds.

    Raises:
        StoreUnavailableError: no answer, or one that may be another later.
        InvalidInputError: the database refuses the values; its own sentence is the message.
    """
    with in_words(what):
        async with asyncio.timeout(deadline):
            return await awaitable


@contextmanager
def in_words(what: str) -> Generator[None]:
    """Translate the errors of a call of the Supabase client; raises as `call` does."""
    try:
        yield
    except (TimeoutError, httpx.RequestError) as error:
        raise StoreUnavailableError(
            f"Supabase did not answer when asked to {what}: {type(error).__name__}."
        ) from error
    except APIError as error:
        code = str(error.code or "")
        if is_transient(code):
            raise StoreUnavailableError(f"Supabase could not {what}: {error.message or code}.") from error
        raise InvalidInputError(error.message or f"Supabase refused to {what} ({code}).") from error
    except StorageApiError as error:
        if str(error.status).startswith("5") or str(error.status) in {"408", "429"}:
            raise StoreUnavailableError(f"Storage could not {what}: {error.message}.") from error
        raise InvalidInputError(f"Storage refused to {what}: {error.message}.") from error


def is_transient(code: str) -> bool:
    """Whether the same call may succeed later, by the error's code.

    A SQLSTATE has five characters; gateways answer with HTTP numbers, and PostgREST with `PGRST…`: none of
    them is the database's word about the values.
    """
    return code.startswith(_TRANSIENT_SQLSTATE_CLASSES) or not (len(code) == 5 and code.isalnum())
