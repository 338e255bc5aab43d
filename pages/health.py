"""Workers, and why tasks of the person do not run: a dialog."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from live import front
from live.feed import STATUS, THREADS
from live.health_desk import Health, TaskHealth, WorkerHealth
from live.person import Person
from live.wording import (
    UNAVAILABLE,
    UNSAFE,
    ago,
    counted,
    isolation,
    plain,
    short,
    way_to_the_queue,
)
from pages import visit
from pages.text import small

_OPEN = "health_open"
_COUNTED = {
    "running": "running",
    "queued": "queued",
    "held": "held",
    "scheduled": "scheduled",
    "waiting": "waiting for you",
    "dead_letters": "failed",
}
_DAY_SECONDS = 24 * 3600


def show() -> None:
    """Open the dialog; it is the whole page that draws it, because the sidebar is redrawn on its own."""
    st.session_state[_OPEN] = True
    st.rerun()


def keep_open(person: Person) -> None:
    """Draw the dialog again when the whole page is."""
    if st.session_state.get(_OPEN):
        _dialog(person)


def _close() -> None:
    st.session_state.pop(_OPEN, None)


@st.dialog("Workers and tasks", width="medium", icon=":material/monitor_heart:", on_dismiss=_close)
def _dialog(person: Person) -> None:
    with visit.calmly():
        seen = max(person.feed.number(THREADS), person.feed.number(STATUS))
        health = visit.wait_for(person.health_desk.look())
        st.markdown("**Workers**")
        _workers(person, health)
        st.markdown("**Your tasks**")
        _tasks(health)
        front.watch("watch-health", [THREADS, STATUS], seen)
        st.button("Look again", icon=":material/refresh:", key="health_again", type="tertiary")


def _workers(person: Person, health: Health) -> None:
    now = datetime.now(UTC)
    present = {worker.id: worker for worker in person.feed.workers}
    shown = [worker for worker in health.workers if worker.id in present or _recent(worker, now)]
    if not shown:
        st.warning(
            "No worker has been online for a day. Start one with `make run`, or look at the log of those "
            "that should be there.",
            icon=":material/dns:",
        )
    for worker in shown:
        _worker(worker, online=worker.online or worker.id in present, now=now)
    known = {worker.id for worker in health.workers}
    for worker in present.values():
        if worker.id not in known:  # it takes no tasks, so the queue does not know it
            with st.container(border=True, gap="xxsmall", key=f"health-worker-{worker.id}"):
                st.markdown(f":orange[:material/warning:] **{plain(worker.host)}**")
                small(f"{plain(isolation(worker.sandbox))} · version {plain(worker.version)}")


def _recent(worker: WorkerHealth, now: datetime) -> bool:
    return worker.seen_at is not None and (now - worker.seen_at).total_seconds() < _DAY_SECONDS


def _worker(worker: WorkerHealth, *, online: bool, now: datetime) -> None:
    with st.container(border=True, gap="xxsmall", key=f"health-worker-{worker.id}"):
        seen = ago(worker.seen_at, now) if worker.seen_at else "never"
        if worker.stopped_at is not None:
            mark, state = ":gray[:material/stop_circle:]", f"stopped {ago(worker.stopped_at, now)}"
        elif online:
            mark = ":green[:material/check_circle:]"
            state = f"online, {worker.running} of {counted(worker.slots, 'slot')} busy"
        else:
            mark, state = ":red[:material/error:]", f"silent, last seen {seen}"
        st.markdown(f"{mark} **{plain(worker.host)}** · {state}")
        if worker.labels:
            st.markdown(" ".join(f":blue-badge[{plain(label)}]" for label in worker.labels))
        model = plain(worker.model) if worker.model else "no model, scripted demo only"
        bad = worker.sandbox in (UNSAFE, UNAVAILABLE)
        tier = f":red[{isolation(worker.sandbox)}]" if bad else isolation(worker.sandbox)
        about = f"Model: {model} · version {plain(worker.version)}"
        small(f"{way_to_the_queue(worker.adapter)}  \n{tier}  \n{about}")


def _tasks(health: Health) -> None:
    counts = [f"{health.counts[name]} {words}" for name, words in _COUNTED.items() if health.counts.get(name)]
    small(" · ".join(counts) if counts else "None is running or waiting.")
    for task in (*health.running, *health.waiting):
        if task.why:
            _task(task)


def _task(task: TaskHealth) -> None:
    icon = ":red[:material/error:]" if task.bad else ":gray[:material/schedule:]"
    with st.container(border=True, gap="xxsmall", key=f"health-task-{task.id}"):
        st.markdown(f"{icon} {plain(short(task.prompt, 80))}")
        small(plain(task.why))
