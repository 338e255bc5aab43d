"""Conversations, workers, the model, the connection and the account."""

from __future__ import annotations

import uuid

import streamlit as st

from live import front
from live.feed import STATUS, THREADS, Feed
from live.person import Person
from live.rows import ThreadRow, Worker
from live.wording import counted, plain, short
from pages import model_settings, visit
from pages.text import small

_TITLE_CHARACTERS = 21


def show() -> None:
    """Draw the sidebar."""
    with st.sidebar:
        _panel()


@st.fragment
def _panel() -> None:
    with visit.calmly():
        person = visit.person()
        feed = person.feed
        seen = max(feed.number(THREADS), feed.number(STATUS))
        if st.button("New thread", icon=":material/add:", width="stretch", key="new_thread"):
            _go(None)
        _threads(person)
        st.divider()
        _status(feed, seen)
        model_settings.show(person)
        _account()


def _go(thread_id: str | None) -> None:
    st.query_params.clear()
    if thread_id is not None:
        st.query_params["thread"] = thread_id
    st.session_state.pop("shown_tasks", None)
    st.session_state.pop("assistant_chosen", None)
    st.rerun()


def _threads(person: Person) -> None:
    threads = visit.wait_for(person.threads())
    current = st.query_params.get("thread")
    busy = {row.thread_id for row in person.feed.followed() if not row.final}
    if not threads:
        small("Your threads appear here.")
    for thread in threads:
        _thread(person, thread, current=thread.id == current, busy=thread.id in busy)


def _thread(person: Person, thread: ThreadRow, *, current: bool, busy: bool) -> None:
    with st.container(
        horizontal=True,
        wrap=False,
        gap="xxsmall",
        vertical_alignment="center",
        horizontal_alignment="distribute",
    ):
        if st.button(
            plain(short(thread.title, _TITLE_CHARACTERS)),
            key=f"thread-{thread.id}",
            type="secondary" if current else "tertiary",
            icon=":material/pending:" if busy else ":material/chat_bubble:",
            help="A task is running here." if busy else None,
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
        [THREADS, STATUS],
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


def _worker_line(worker: Worker) -> str:
    model = plain(worker.model) if worker.model else "no model, scripted demo only"
    return (
        f"**{plain(worker.host)}**  \n"
        f":gray[Model: {model}]  \n"
        f":gray[Sandbox: {plain(worker.sandbox)}, {counted(worker.slots, 'slot')}]"
    )


def _account() -> None:
    session = visit.session()
    if session is None:
        return
    with st.popover("Account", icon=":material/person:", width="stretch", key="account"):
        small("Signed in as")
        st.text(session.tokens.email)
        if st.button("Sign out", icon=":material/logout:", key="sign_out"):
            front.post("leave", "/pa/leave", {}, once=str(uuid.uuid4()))
