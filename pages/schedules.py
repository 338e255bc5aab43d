"""A person's schedules: which there are, what came of them, and what can be done with them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from live.person import Person
from live.schedules import Run, ScheduleRow, moment_in_words
from live.wording import STATE_WORDS, ago, counted, plain, problem, until
from pages import schedule_form, visit
from pages.text import small
from pythonic_assistant.domain.errors import AssistantError

logger = logging.getLogger(__name__)

_OPEN, _REMOVED, _SAID, _WRONG = "schedules_open", "schedule_removed", "schedule_said", "schedule_wrong"
_SOON_SECONDS = 24 * 3600


def show(person: Person) -> None:
    """Open the dialog, in its first state."""
    _close()
    st.session_state[_OPEN] = True
    _dialog(person)


def keep_open(person: Person) -> None:
    """Draw the dialog again when the whole page is, which may be at any moment: what is typed has to stay."""
    if st.session_state.get(_OPEN):
        _dialog(person)


def _close() -> None:
    for name in (_OPEN, _REMOVED, _SAID, _WRONG):
        st.session_state.pop(name, None)
    schedule_form.close()


@st.dialog("Schedules", width="medium", icon=":material/calendar_month:", on_dismiss=_close)
def _dialog(person: Person) -> None:
    with visit.calmly():
        schedules = visit.wait_for(person.schedule_desk.schedules())
        edited = next((each for each in schedules if each.id == schedule_form.edited()), None)
        if st.session_state.get(_WRONG):
            st.error(plain(st.session_state[_WRONG]), icon=":material/error:")
        if st.session_state.get(_SAID):
            st.success(plain(st.session_state[_SAID]), icon=":material/check_circle:")
        if edited is None:
            if not schedules:
                st.markdown("Tasks that come again by themselves, such as a report every weekday at 8.")
            for schedule in schedules:
                _card(person, schedule)
        schedule_form.show(person, edited, _said)


def _said(words: str) -> None:
    st.session_state.pop(_WRONG, None)
    st.session_state[_SAID] = words


def _card(person: Person, schedule: ScheduleRow) -> None:
    now = datetime.now(UTC)
    with st.container(border=True, gap="xsmall", key=f"schedule-card-{schedule.id}"):
        with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
            st.markdown(f"**{plain(schedule.name)}**", width="stretch")
            _buttons(person, schedule)
        small(f"{plain(schedule.in_words())} · {plain(schedule.time_zone)}")
        times = schedule.next_times(now)
        if schedule.problem:
            st.error(plain(schedule.problem), icon=":material/error:")
        elif schedule.paused:
            st.badge("Paused", icon=":material/pause:", color="orange")
        elif times:
            soon = (times[0] - now).total_seconds() < _SOON_SECONDS
            small(
                f"Next: {plain(moment_in_words(times[0]))}" + (f" ({until(times[0], now)})" if soon else "")
            )
        if schedule.runs or times or schedule.skipped:
            with st.expander("Times and runs", type="compact"), st.container(gap="xsmall"):
                _details(schedule, times, now)
        if st.session_state.get(_REMOVED) == schedule.id:
            _remove(person, schedule)


def _buttons(person: Person, schedule: ScheduleRow) -> None:
    name = plain(schedule.name)
    desk = person.schedule_desk
    st.button(
        f"Run {name} now",  # read out; to the eye the icon and the hint say it
        key=f"run-schedule-{schedule.id}",
        type="tertiary",
        icon=":material/play_arrow:",
        help="Run now",
        on_click=_run_now,
        args=(person, schedule),
    )
    words = "Resume" if schedule.paused else "Pause"
    st.button(
        f"{words} {name}",
        key=f"pause-schedule-{schedule.id}",
        type="tertiary",
        icon=":material/resume:" if schedule.paused else ":material/pause:",
        help=words,
        on_click=lambda: _do(
            desk.pause(schedule.id, paused=not schedule.paused), f"{schedule.name}: {words.lower()}d."
        ),
    )
    st.button(
        f"Edit {name}",
        key=f"edit-schedule-{schedule.id}",
        type="tertiary",
        icon=":material/edit:",
        help="Edit",
        on_click=_edit,
        args=(schedule,),
    )
    st.button(
        f"Remove {name}",
        key=f"remove-schedule-{schedule.id}",
        type="tertiary",
        icon=":material/delete:",
        help="Remove",
        on_click=_ask_to_remove,
        args=(schedule.id,),
    )


def _details(schedule: ScheduleRow, times: tuple[datetime, ...], now: datetime) -> None:
    if times:
        st.markdown("Next times")
        small("  \n".join(plain(moment_in_words(moment)) for moment in times))
    if schedule.skipped:
        small(
            f":material/event_busy: {counted(schedule.skipped, 'run')} skipped, because no worker was there; "
            f"the last one {plain(schedule.skipped_in_words())}."
        )
    if schedule.runs:
        st.markdown("Last runs")
        for run in schedule.runs:
            st.markdown(_run_line(run, now))


def _run_line(run: Run, now: datetime) -> str:
    when = ago(run.created_at, now) if run.created_at else ""
    icon, words = {
        "proven": (":green[:material/verified:]", "Proven"),
        "unverified": (":orange[:material/help:]", "Unverified"),
        "refuted": (":red[:material/cancel:]", "Refuted"),
    }.get(run.verdict or "", (":gray[:material/schedule:]", STATE_WORDS.get(run.state, run.state)))
    if run.state == "failed" and run.verdict is None:
        icon = ":red[:material/error:]"
    return f"{icon} {words} · {when} · [Task {run.id}](?task={run.id})"


def _remove(person: Person, schedule: ScheduleRow) -> None:
    st.markdown("No more tasks come of it; those that it made stay. Remove it for good?")
    with st.container(horizontal=True):
        st.button(
            "Remove it",
            key=f"really-remove-schedule-{schedule.id}",
            type="primary",
            icon=":material/delete:",
            on_click=lambda: _do(person.schedule_desk.remove(schedule.id), f"{schedule.name} is removed."),
        )
        st.button("Keep", key=f"keep-schedule-{schedule.id}", on_click=_ask_to_remove, args=(None,))


def _ask_to_remove(schedule_id: str | None) -> None:
    st.session_state.pop(_SAID, None)
    st.session_state[_REMOVED] = schedule_id


def _edit(schedule: ScheduleRow) -> None:
    for name in (_SAID, _WRONG, _REMOVED):
        st.session_state.pop(name, None)
    schedule_form.edit(schedule)


def _run_now(person: Person, schedule: ScheduleRow) -> None:
    _do(person.schedule_desk.run_now(schedule.id, str(uuid.uuid4())), f"{schedule.name} runs now.")


def _do(work: Coroutine[Any, Any, Any], said: str) -> None:
    """Do what was asked for, before the dialog is drawn again."""
    for name in (_SAID, _WRONG, _REMOVED):
        st.session_state.pop(name, None)
    try:
        visit.wait_for(work)
    except AssistantError as error:
        logger.info("schedule not changed: %s", error, extra={"action": "schedule"})
        st.session_state[_WRONG] = problem(error)
    else:
        st.session_state[_SAID] = said
