"""Conversations, workers, the model, the connection and the account."""

from __future__ import annotations

import uuid

import streamlit as st

from live import front
from live.feed import APPROVALS, STATUS, THREADS, Feed
from live.person import Person
from live.rows import ThreadRow, Worker
from live.wording import STATE_WORDS, UNAVAILABLE, UNSAFE, counted, isolation, plain, short, way_to_the_queue
from pages import (
    access,
    budget,
    failures,
    health,
    model_settings,
    rules,
    schedules,
    secrets,
    visit,
    waiting,
    when,
)
from pages.text import said_with_details, small

_TITLE_CHARACTERS = 80  # the button cuts what it has no room for
_FIRST_THREADS, _MORE_THREADS = 12, 12
_STATES = {
    "Proven": ":green[:material/verified:]",
    "Unverified": ":orange[:material/help:]",
    "Failed": ":red[:material/error:]",
    "Refuted": ":red[:material/cancel:]",
    "Cancelled": ":gray[:material/block:]",
    "Waits for you": ":orange[:material/front_hand:]",
    "Running": ":blue[:material/pending:]",
}


def show() -> None:
    """Draw the sidebar."""
    with st.sidebar:
        _panel()


@st.fragment
def _panel() -> None:
    with visit.calmly():
        person = visit.person()
        feed = person.feed
        seen = max(feed.number(channel) for channel in (THREADS, STATUS, APPROVALS))
        if st.button("New thread", icon=":material/add:", width="stretch", key="new_thread"):
            _go(None)
        failures.tell(person)
        waiting.button(person)
        _threads(person)
        st.divider()
        _status(feed, seen)
        model_settings.show(person)
        _places(person)
        _account()


def _places(person: Person) -> None:
    """What opens over the page, as quiet lines."""
    with st.container(gap=None, key="places"):
        if _place("Workers and tasks", ":material/monitor_heart:", "health"):
            health.show()
        if _place("Budget", ":material/savings:", "budget"):
            budget.show()
        if _place("Schedules", ":material/calendar_month:", "schedules"):
            schedules.show(person)
        if _place("Rules", ":material/bolt:", "rules"):
            rules.show()
        if _place("Secrets", ":material/key:", "secrets"):
            secrets.show(person)


def _place(words: str, icon: str, key: str) -> bool:
    return st.button(words, icon=icon, key=key, type="tertiary", width="stretch")


def _go(thread_id: str | None) -> None:
    st.query_params.clear()
    if thread_id is not None:
        st.query_params["thread"] = thread_id
    st.session_state.pop("shown_tasks", None)
    st.session_state.pop("assistant_chosen", None)
    st.session_state.pop("refusal", None)
    access.forget()
    when.forget()
    st.session_state["gone"] = int(st.session_state.get("gone", 0)) + 1
    st.rerun()


def _threads(person: Person) -> None:
    threads = visit.wait_for(person.threads())
    current = st.query_params.get("thread")
    if not threads:
        small("Your threads appear here.")
    limit = int(st.session_state.setdefault("shown_threads", _FIRST_THREADS))
    with st.container(gap=None):
        for place, thread in enumerate(threads):
            if place < limit or thread.id == current:
                _thread(person, thread, current=thread.id == current)
    if len(threads) > limit:
        st.button(
            "Show more",
            key="more_threads",
            type="tertiary",
            icon=":material/expand_more:",
            on_click=_show_more_threads,
        )


def _show_more_threads() -> None:
    st.session_state["shown_threads"] = int(st.session_state["shown_threads"]) + _MORE_THREADS


def _last_state(thread: ThreadRow) -> str:
    """In a word, how the last task of a conversation stands; "" when there is none."""
    if thread.state is None:
        return ""
    if thread.busy:
        return "Running" if thread.state == "running" else STATE_WORDS.get(thread.state, "")
    if thread.state == "succeeded":
        return "Proven" if thread.verdict == "proven" else "Unverified"
    if thread.verdict == "refuted":
        return "Refuted"
    return STATE_WORDS.get(thread.state, "")


def _thread(person: Person, thread: ThreadRow, *, current: bool) -> None:
    words = _last_state(thread)
    icon = _STATES.get(words, ":gray[:material/schedule:]" if words else ":gray[:material/chat_bubble:]")
    with st.container(
        horizontal=True,
        wrap=False,
        gap="xxsmall",
        vertical_alignment="center",
        horizontal_alignment="distribute",
    ):
        if st.button(
            f"{icon} {plain(short(thread.title, _TITLE_CHARACTERS))}",
            key=f"thread-{thread.id}",
            type="secondary" if current else "tertiary",
            width="stretch",
            wrap=False,
        ):
            _go(thread.id)
        chosen = st.menu_button(
            "",
            ["Rename", "Delete"],
            key=f"thread-menu-{thread.id}",
            type="tertiary",
            icon=":material/more_horiz:",
            help=f"Rename or delete “{plain(short(thread.title, _TITLE_CHARACTERS))}”",
        )
    if chosen == "Rename":
        _rename(person, thread)
    elif chosen == "Delete":
        _delete(person, thread)


@st.dialog("Rename the thread")
def _rename(person: Person, thread: ThreadRow) -> None:
    with st.form("rename", border=False):
        title = st.text_input("Title", value=thread.title, max_chars=200)
        if st.form_submit_button("Rename", type="primary"):
            if not (title or "").strip():
                st.warning("Enter a title.", icon=":material/info:")
            elif visit.done(person.desk.rename_thread(thread.id, title or "")):
                _changed(person)
                st.rerun()


@st.dialog("Delete the thread?")
def _delete(person: Person, thread: ThreadRow) -> None:
    st.markdown(f"“{plain(thread.title)}” with its tasks, answers and files is deleted for good.")
    with st.container(horizontal=True):
        if st.button("Delete", type="primary", icon=":material/delete:") and visit.done(
            person.desk.delete_thread(thread.id)
        ):
            _changed(person)
            if st.query_params.get("thread") == thread.id:
                _go(None)
            st.rerun()
        if st.button("Keep"):
            st.rerun()


def _changed(person: Person) -> None:
    async def tell() -> None:
        person.threads_changed()

    visit.wait_for(tell())


def _status(feed: Feed, seen: int) -> None:
    words = {"connected": "Connected", "connecting": "Connecting…", "lost": "Connection lost, reconnecting…"}
    front.watch(
        "watch-sidebar",
        [THREADS, STATUS, APPROVALS],
        seen,
        text=words[feed.connection],
        state="lost" if feed.connection == "lost" else "connected",
    )
    workers = feed.workers
    if feed.connection == "connected" and not workers:
        small("No worker is online. Tasks wait until one is.")
    elif workers:
        with st.expander(f"{counted(len(workers), 'worker')} online", icon=":material/dns:", type="compact"):
            for worker in workers:
                st.markdown(_worker_line(worker))
                if worker.sandbox_note:
                    small(plain(said_with_details(worker.sandbox_note)[0]))


def _worker_line(worker: Worker) -> str:
    bad = worker.sandbox in (UNSAFE, UNAVAILABLE)
    model = plain(worker.model) if worker.model else "no model, scripted demo only"
    return (
        f"**{plain(worker.host)}**  \n"
        f":gray[Model: {model}]  \n"
        f":gray[{counted(worker.slots, 'slot')}{_labels(worker)}]  \n"
        + (f":gray[{way_to_the_queue(worker.queue)}]  \n" if worker.queue else "")
        + (f":red[{isolation(worker.sandbox)}]" if bad else f":gray[{isolation(worker.sandbox)}]")
    )


def _labels(worker: Worker) -> str:
    return f", labels {plain(', '.join(worker.labels))}" if worker.labels else ""


def _account() -> None:
    session = visit.session()
    if session is None:
        return
    with st.popover("Account", icon=":material/person:", width="stretch", key="account"):
        small("Signed in as")
        st.text(session.tokens.email)
        if st.button("Sign out", icon=":material/logout:", key="sign_out"):
            front.post("leave", "/pa/leave", {}, once=str(uuid.uuid4()))
