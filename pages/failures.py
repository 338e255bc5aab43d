"""Tells people that a task failed while they look at something else."""

from __future__ import annotations

import streamlit as st

from live.person import Person
from live.wording import plain, short
from pages import visit

_TOLD = "failures_told"
_TITLE_CHARACTERS = 60


def tell(person: Person) -> None:
    """Show a toast for each task that failed since the last redraw, unless its thread is on screen."""
    failures = person.feed.failures
    told = int(st.session_state.setdefault(_TOLD, failures[-1].number if failures else 0))
    fresh = [failure for failure in failures if failure.number > told]
    if not fresh:
        return
    st.session_state[_TOLD] = fresh[-1].number
    current = st.query_params.get("thread")
    titles = {thread.id: thread.title for thread in visit.wait_for(person.threads())}
    for failure in fresh:
        if failure.thread_id is None or failure.thread_id == current:
            continue
        title = plain(short(titles.get(failure.thread_id, "A task"), _TITLE_CHARACTERS))
        st.toast(f"Failed: {title}", icon=":material/error:", duration="long")
