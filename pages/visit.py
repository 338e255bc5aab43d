"""Who looks at the page, and what happens when the database does not answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import streamlit as st

from live.person import Person
from live.runtime import runtime
from live.sessions import Session, SessionEndedError
from live.wording import problem
from pythonic_assistant.domain.errors import AssistantError, StoreUnavailableError

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_AGAIN_SECONDS = 2.0


def session() -> Session | None:
    """The session of this browser, unless nobody is signed in."""
    page = runtime()
    return page.book.find(st.context.cookies.get(page.cookie))


def person() -> Person:
    """The person who looks.

    Raises:
        SessionEndedError: nobody is signed in any more.
    """
    current = session()
    if current is None:
        raise SessionEndedError("The session has ended: sign in again.")
    page = runtime()
    return page.run(page.hub.person(current))


def wait_for(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run work on the page's event loop and give its result; errors are those of the work."""
    return runtime().run(work)


@contextmanager
def calmly() -> Generator[None, None, None]:
    """Draw what is inside; without the database, say so and try again by itself."""
    try:
        yield
    except StoreUnavailableError:
        st.info(
            "Starting… The database does not answer yet. This page tries again by itself.",
            icon=":material/hourglass_top:",
        )
        try_again_soon()
    except SessionEndedError:
        st.rerun()
    except AssistantError as error:
        st.error(str(error), icon=":material/error:")


def done(work: Coroutine[Any, Any, Any]) -> bool:
    """Do what a person asked for; a failure is told in a toast. Returns whether it was done."""
    try:
        wait_for(work)
    except AssistantError as error:
        logger.info("not done: %s", error, extra={"action": "done"})
        st.toast(problem(error), icon=":material/error:", duration="long")
        return False
    return True


def try_again_soon() -> None:
    """Run the whole script again in a moment."""
    begun = time.monotonic()

    @st.fragment(run_every=_AGAIN_SECONDS)
    def again() -> None:
        if time.monotonic() - begun > _AGAIN_SECONDS / 2:
            st.rerun()

    again()
