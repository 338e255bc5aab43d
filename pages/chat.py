"""A conversation: its tasks as cards, and the place to ask the next one."""

from __future__ import annotations

import logging
import mimetypes
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import streamlit as st

from live import front
from live.desk import LARGEST_UPLOAD_MEGABYTES, File
from live.feed import STATUS
from live.person import Person
from live.rows import ASSISTANT_ID, DEMO_ID, AssistantRow, IceBreaker, TaskRow
from live.runtime import ROOT
from live.wording import plain, problem
from pages import access, card, visit, when
from pages.text import small
from pythonic_assistant.domain.errors import AssistantError, InvalidInputError

logger = logging.getLogger(__name__)

_FIRST_TASKS, _MORE_TASKS = 10, 20
_MOST_PROMPT = 20_000  # characters; the table of tasks takes no more
_SENT, _REFUSAL = "sent", "refusal"


def show(seen: int) -> None:
    """Draw the conversation of the address, or an empty one.

    Args:
        seen: the number of the feed's latest change before the page began to be drawn.
    """
    person = visit.person()
    feed = person.feed
    thread_id, focus = _asked_for(person)
    channels = [STATUS] + ([f"thread:{thread_id}"] if thread_id else [])
    with st.container(horizontal=True, gap=None):
        front.watch("watch-page", channels, seen)
        front.announcer(on_unsent=_unsent, gone=int(st.session_state.get("gone", 0)))
    if feed.connection == "lost":
        with st.bottom:
            st.warning("Connection lost, reconnecting… What you see may be old.", icon=":material/cloud_off:")
    limit = int(st.session_state.setdefault("shown_tasks", _FIRST_TASKS))
    ids = visit.wait_for(person.open_thread(thread_id, limit)) if thread_id else ()
    assistant = _choose(person, thread_id)
    if ids:
        if len(ids) >= limit and st.button("Show earlier tasks", icon=":material/expand_less:"):
            st.session_state["shown_tasks"] = limit + _MORE_TASKS
            st.rerun()
        for task_id in ids:
            card.show(task_id, focus=task_id == (focus if focus in ids else ids[-1]))
    elif thread_id is None:
        _empty(person, assistant)
    else:
        st.info("This thread has no tasks, or is not yours.", icon=":material/info:")
    _ask(person, thread_id, assistant)


def _asked_for(person: Person) -> tuple[str | None, int | None]:
    """The thread and the task of the address `?thread=…` or `?task=…`."""
    thread_id = st.query_params.get("thread")
    task = st.query_params.get("task")
    focus = int(task) if task is not None and task.isdecimal() and len(task) < 18 else None
    if focus is not None and thread_id is None:
        row = visit.wait_for(person.open_task(focus))
        if row is None:
            st.warning("There is no such task of yours.", icon=":material/info:")
        else:
            thread_id = row.thread_id
            if thread_id is not None:
                st.query_params["thread"] = thread_id
    if thread_id is not None:
        try:
            thread_id = str(uuid.UUID(thread_id))
        except ValueError:
            st.warning("This address names no thread.", icon=":material/info:")
            thread_id = None
    return thread_id, focus


def _choose(person: Person, thread_id: str | None) -> AssistantRow:
    """The assistant of the next task; chosen for the person until they choose one themselves."""
    assistants = {row.id: row for row in visit.wait_for(person.assistants())}
    if not assistants:
        raise InvalidInputError("The database has no assistants: run its migrations.")
    if not st.session_state.get("assistant_chosen"):
        threads = visit.wait_for(person.threads())
        of_thread = next((t.assistant_id for t in threads if t.id == thread_id), None)
        preferred = of_thread or (ASSISTANT_ID if person.feed.model_configured() else DEMO_ID)
        st.session_state["assistant"] = preferred if preferred in assistants else next(iter(assistants))
    with (
        st.bottom,
        st.container(horizontal=True, vertical_alignment="center", gap="small", key="next-task"),
    ):
        chosen = st.selectbox(
            "Assistant",
            list(assistants),
            format_func=lambda key: _assistant_label(assistants[key]) if key in assistants else key,
            key="assistant",
            on_change=_chosen,
            label_visibility="collapsed",
            width=300,
        )
        assistant = assistants.get(chosen or "") or next(iter(assistants.values()))
        access.show(thread_id, assistant)
        when.show()
        if (
            not assistant.scripted
            and person.feed.connection == "connected"
            and not person.feed.model_configured()
        ):
            small("No model is configured: see *Model* in the sidebar.")
    return assistant


def _assistant_label(assistant: AssistantRow) -> str:
    if not assistant.scripted:
        return assistant.name
    return "Scripted demo, no AI" if assistant.id == DEMO_ID else f"{assistant.name} (scripted demo, no AI)"


def _chosen() -> None:
    st.session_state["assistant_chosen"] = True


def _empty(person: Person, assistant: AssistantRow) -> None:
    st.header("What shall be done?", anchor=False)
    st.markdown(plain(assistant.description))
    if assistant.scripted:
        st.badge("scripted demo, no AI", icon=":material/theater_comedy:", color="violet")
    nonce = st.session_state.setdefault("nonce", str(uuid.uuid4()))
    for number, breaker in enumerate(assistant.ice_breakers):
        files = f" :gray[with {', '.join(plain(name) for name in breaker.files)}]" if breaker.files else ""
        if st.button(
            f"**{plain(breaker.title)}**{files}",
            key=f"ice-{assistant.id}-{number}",
            help=plain(breaker.prompt),
            icon=":material/play_circle:",
            width="stretch",
        ):
            _start_breaker(person, assistant, breaker, f"{nonce}-{number}")


def _start_breaker(person: Person, assistant: AssistantRow, breaker: IceBreaker, key: str) -> None:
    st.session_state.pop(_REFUSAL, None)
    try:
        files = tuple(_example(name) for name in breaker.files)
        _start(person, breaker.prompt, files, None, assistant, key)
    except AssistantError as error:
        logger.info("not asked: %s", error, extra={"action": "ask"})
        st.session_state[_REFUSAL] = problem(error)
        st.rerun()


def _example(name: str) -> File:
    """A file below `examples/`, and nothing outside it."""
    folder = (ROOT / "examples").resolve()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise InvalidInputError(f"The example file {name} is not there: upload a file of your own instead.")
    return path.name, path.read_bytes(), _media_type(path.name)


def _ask(person: Person, thread_id: str | None, assistant: AssistantRow) -> None:
    if "again" in st.session_state:
        st.session_state["prompt"] = st.session_state.pop("again")
    with st.bottom:
        _refusal()
        # No max_chars: with it the widget takes nothing of a longer text that is pasted, and says nothing.
        given = st.chat_input(
            "Ask for something to be done",
            key="prompt",
            accept_file="multiple",
            max_upload_size=LARGEST_UPLOAD_MEGABYTES,
        )
    if given is None:
        return
    st.session_state.pop(_REFUSAL, None)
    text = str(getattr(given, "text", given)).strip()
    uploads = cast("Sequence[Any]", getattr(given, "files", ()))
    if not text:
        st.session_state[_REFUSAL] = "Write what should be done with the files, and attach them again."
        st.rerun()
    files = tuple(
        (str(u.name), bytes(u.getvalue()), str(u.type or _media_type(str(u.name)))) for u in uploads
    )
    try:
        _start(person, text, files, thread_id, assistant, _key(text))
    except AssistantError as error:
        logger.info("not asked: %s", error, extra={"action": "ask"})
        st.session_state["again"] = text
        todo = "attach the files again and send it again." if files else "send it again."
        st.session_state[_REFUSAL] = f"{problem(error)} Your text is kept: {todo}"
        st.rerun()  # the input takes the kept text, and the reason stands above it, only before it is drawn


def _refusal() -> None:
    """Why the last send was refused, until the next one or until it is dismissed."""
    words = st.session_state.get(_REFUSAL)
    if not words:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", wrap=False):
        st.error(plain(str(words)), icon=":material/error:")  # of the role alert: it is read out at once
        st.button("Dismiss", key="dismiss", type="tertiary", on_click=_dismiss, wrap=False)


def _dismiss() -> None:
    st.session_state.pop(_REFUSAL, None)


def _unsent(files: Sequence[str], why: str) -> None:
    """The browser held a send back because files beside the input were not taken."""
    names = ", ".join(f"“{name}”" for name in files)
    st.session_state[_REFUSAL] = (
        f"Not sent: {names} could not be attached. {why} Remove it to send without it."
    )


def _key(prompt: str) -> str:
    """The dedupe key of a prompt that is sent: again the same one until it is known to have arrived.

    A prompt whose answer was lost may be a task already; sent again with the same key it stays one.
    """
    sent, key = cast("tuple[str, str]", st.session_state.get(_SENT, ("", "")))
    if sent != prompt:
        key = str(uuid.uuid4())
        st.session_state[_SENT] = (prompt, key)
    return key


def _start(
    person: Person,
    prompt: str,
    files: Sequence[File],
    thread_id: str | None,
    assistant: AssistantRow,
    dedupe_key: str,
) -> None:
    """Upload, enqueue, and open the thread; errors are those of the desk."""
    if len(prompt) > _MOST_PROMPT:
        raise InvalidInputError(
            f"The text has {len(prompt):,} characters and a task takes up to {_MOST_PROMPT:,}: "
            "shorten it, or attach it as a file."
        )
    run_at = when.moment()
    thread_id = thread_id or access.begin(person, assistant.id)
    row = visit.wait_for(
        _enqueue(person, prompt, files, thread_id, assistant.id, dedupe_key, access.limits(), run_at)
    )
    access.forget()
    when.forget()
    st.session_state.pop("nonce", None)
    st.session_state.pop(_SENT, None)
    if row.thread_id is not None:
        st.query_params.from_dict({"thread": row.thread_id})
    st.rerun()


async def _enqueue(
    person: Person,
    prompt: str,
    files: Sequence[File],
    thread_id: str | None,
    assistant_id: str,
    dedupe_key: str,
    limits: Mapping[str, float],
    run_at: datetime | None,
) -> TaskRow:
    inputs = await person.desk.upload_all(files)
    row = await person.desk.enqueue(
        prompt,
        dedupe_key=dedupe_key,
        thread_id=thread_id,
        assistant_id=assistant_id,
        inputs=inputs,
        limits=limits,
        run_at=run_at,
    )
    person.added(row)
    return row


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
