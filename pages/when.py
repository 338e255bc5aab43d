"""When the next task begins: a control beside the assistant. Empty is now."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from live.schedules import moment_in_words, understood
from live.wording import plain
from pages.text import small
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.schedule import Recurring

_WORDS, _ROUND = "later_words", "later_round"


@st.fragment
def show() -> None:
    """Draw the control."""
    try:
        at, wrong = moment(), ""
    except InvalidInputError as error:
        at, wrong = None, str(error)
    label = plain(moment_in_words(at)) if at else "Not understood" if wrong else "Now"
    with st.popover(label, icon=":material/schedule:", key="later"):
        st.text_input(
            "When to begin", key=_key(), placeholder="tomorrow at 9", max_chars=200, autocomplete="off"
        )
        if wrong:
            st.warning(plain(wrong), icon=":material/help:")
        else:
            small(f"{at.tzname()}, the time of this browser." if at else "Empty is at once.")


def moment() -> datetime | None:
    """When the next task is to begin; None for at once.

    Raises:
        InvalidInputError: the words name no moment to come.
    """
    words = str(st.session_state.get(_key()) or "").strip()
    if not words:
        return None
    when = understood(words, st.context.timezone or "UTC")
    if isinstance(when, Recurring):
        raise InvalidInputError("This comes again and again: add it under Schedules, in the sidebar.")
    return when.at


def forget() -> None:
    """The next task begins at once again: the field is another one, so that the browser forgets it too."""
    st.session_state.pop(_key(), None)
    st.session_state[_ROUND] = int(st.session_state.get(_ROUND, 0)) + 1


def _key() -> str:
    return f"{_WORDS}-{st.session_state.get(_ROUND, 0)}"
