"""The form of a schedule: what was understood is shown with the next times before it can be saved."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable

import streamlit as st

from live.person import Person
from live.rows import ASSISTANT_ID, DEMO_ID
from live.schedules import ScheduleRow, in_words, moment_in_words, times_of, understood, zone_names
from live.wording import plain, problem
from pages import visit
from pages.text import small
from pythonic_assistant.domain.errors import AssistantError, InvalidInputError
from pythonic_assistant.domain.schedule import Once, When

logger = logging.getLogger(__name__)

_EDITED, _NAME, _PROMPT, _WHEN = "schedule_edited", "schedule_name", "schedule_prompt", "schedule_when"
_ZONE, _ASSISTANT, _MISSED = "schedule_zone", "schedule_assistant", "schedule_missed"
_REFUSED = "schedule_refused"
_FIELDS = (_EDITED, _NAME, _PROMPT, _WHEN, _ZONE, _ASSISTANT, _MISSED, _REFUSED)
_MISSED_WORDS = {"skip": "Skip them", "catch_up_once": "Make up for all of them with one task"}


def edited() -> str | None:
    """The id of the schedule that is edited."""
    return st.session_state.get(_EDITED)


def close() -> None:
    """Forget what was typed."""
    for name in _FIELDS:
        st.session_state.pop(name, None)


def _empty() -> None:
    """Make it the form of a new one. Fields without a value would keep in the browser what was typed."""
    close()
    st.session_state.update({_NAME: "", _PROMPT: "", _WHEN: ""})


def edit(schedule: ScheduleRow) -> None:
    """Make the form that of a schedule."""
    close()
    st.session_state.update(
        {
            _EDITED: schedule.id,
            _NAME: schedule.name,
            _PROMPT: schedule.prompt,
            _WHEN: schedule.cron,
            _ZONE: schedule.time_zone,
            _ASSISTANT: schedule.assistant_id,
            _MISSED: schedule.missed,
        }
    )


def show(person: Person, schedule: ScheduleRow | None, said: Callable[[str], None]) -> None:
    """Draw the form, of a schedule or for a new one.

    Args:
        said: takes the sentence that says what was saved.
    """
    st.markdown(f"**Edit {plain(schedule.name)}**" if schedule else "**Add a schedule**")
    if schedule:
        st.text_input("Name", key=_NAME, max_chars=200)
    st.text_area(
        "What shall be done",
        key=_PROMPT,
        height=100,
        placeholder="Summarize yesterday's orders",
        max_chars=19_000,
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("When", key=_WHEN, placeholder="every weekday at 8", max_chars=200, autocomplete="off")
        zone = _zone()
    when = _understood(zone)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _assistant(person)
        st.selectbox(
            "Runs missed while no worker was there",
            list(_MISSED_WORDS),
            format_func=lambda key: _MISSED_WORDS[key],
            key=_MISSED,
        )
    if st.session_state.get(_REFUSED):
        st.error(plain(st.session_state[_REFUSED]), icon=":material/error:")
    with st.container(horizontal=True):
        once = isinstance(when, Once)
        st.button(
            "Save" if schedule else "Ask it then" if once else "Add schedule",
            key="save_schedule",
            type="primary",
            icon=":material/event_available:",
            disabled=when is None or (once and schedule is not None),
            on_click=_save,
            args=(person, zone, said),
        )
        if schedule:
            st.button("Cancel", key="cancel_schedule", on_click=_empty)


def _zone() -> str:
    zones = zone_names()
    own = st.context.timezone
    if st.session_state.get(_ZONE) not in zones:
        st.session_state[_ZONE] = own if own in zones else "UTC"
    return str(st.selectbox("Time zone", zones, key=_ZONE))


def _assistant(person: Person) -> None:
    assistants = {row.id: row.name for row in visit.wait_for(person.assistants())}
    if st.session_state.get(_ASSISTANT) not in assistants:
        wanted = ASSISTANT_ID if person.feed.model_configured() else DEMO_ID
        st.session_state[_ASSISTANT] = wanted if wanted in assistants else next(iter(assistants), None)
    st.selectbox(
        "Assistant", list(assistants), format_func=lambda key: assistants.get(key, str(key)), key=_ASSISTANT
    )


def _understood(zone: str) -> When | None:
    """Show what the words mean; None while they mean nothing."""
    words = str(st.session_state.get(_WHEN) or "").strip()
    if not words:
        small(
            "In words, such as “last friday of the month at 16” or “tomorrow at 9”, or as cron: 0 8 * * 1-5"
        )
        return None
    try:
        when = understood(words, zone)
        times = times_of(when, zone)
    except InvalidInputError as error:
        st.warning(plain(str(error)), icon=":material/help:")
        return None
    named = "  \n".join(plain(moment_in_words(moment)) for moment in times)
    with st.container(border=True, gap="xsmall", key="schedule-understood"):
        if isinstance(when, Once):
            st.markdown(f":material/event: Once, {plain(moment_in_words(when.at))}")
            if edited():
                small("A schedule comes again: name times such as “every day at 9”.")
            else:
                small("This becomes a task that waits until then, not a schedule.")
        else:
            st.markdown(f":material/event_repeat: {plain(in_words(when.cron))} · `{when.cron}`")
            small(f"Next times:  \n{named}")
    return when


def _save(person: Person, zone: str, said: Callable[[str], None]) -> None:
    st.session_state.pop(_REFUSED, None)
    prompt = str(st.session_state.get(_PROMPT) or "").strip()
    try:
        if not prompt:
            raise InvalidInputError("Write what shall be done.")
        words = _keep(person, zone, prompt)
    except AssistantError as error:
        logger.info("a schedule was not saved: %s", error, extra={"action": "save_schedule"})
        st.session_state[_REFUSED] = problem(error)
        return
    _empty()
    said(words)


def _keep(person: Person, zone: str, prompt: str) -> str:
    """Save what the form says; returns what was saved, in words."""
    when = understood(str(st.session_state.get(_WHEN) or ""), zone)
    assistant: str | None = st.session_state.get(_ASSISTANT)
    if isinstance(when, Once):
        row = visit.wait_for(
            person.desk.enqueue(prompt, dedupe_key=str(uuid.uuid4()), assistant_id=assistant, run_at=when.at)
        )
        person.added(row)
        return f"The task waits until {moment_in_words(when.at)}."
    values = {
        "name": str(st.session_state.get(_NAME) or ""),
        "prompt": prompt,
        "cron": when.cron,
        "time_zone": zone,
        "missed": st.session_state.get(_MISSED) or "skip",
        "assistant_id": assistant,
    }
    schedule_id = edited()
    if schedule_id is None:
        visit.wait_for(person.schedule_desk.add(values))
        return f"Added: {in_words(when.cron)}."
    visit.wait_for(person.schedule_desk.change(schedule_id, values))
    return f"Saved: {in_words(when.cron)}."
