"""Which model answers, whether it does, and how to configure one."""

from __future__ import annotations

import uuid

import streamlit as st

from live import front
from live.person import Person
from live.wording import plain, safe_markdown
from pages import visit
from pages.text import small

_PROMPT = "Test the connection"


def show(person: Person) -> None:
    """Draw the popover."""
    with st.popover("Model", icon=":material/neurology:", width="stretch", key="model"):
        models = sorted({worker.model for worker in person.feed.workers if worker.model})
        if models:
            st.markdown("Configured: " + ", ".join(f"**{plain(name)}**" for name in models))
        else:
            st.markdown("**No model is configured.** The scripted demo works without one.")
        if st.button("Test the connection to the model", icon=":material/network_check:", key="probe"):
            _probe(person)
        _result(person)
        with st.expander("How to configure a model", expanded=not models, type="compact"):
            _how()


def _probe(person: Person) -> None:
    async def ask() -> int:
        row = await person.desk.enqueue(_PROMPT, kind="probe", dedupe_key=f"probe-{uuid.uuid4()}")
        person.added(row)
        return row.id

    with visit.calmly():
        st.session_state["probe_task"] = visit.wait_for(ask())


def _result(person: Person) -> None:
    task_id = st.session_state.get("probe_task")
    if task_id is None:
        return
    visit.wait_for(person.open_task(task_id))
    view = person.feed.task(task_id)
    if view is None:
        return
    row = view.row
    if row.state == "succeeded":
        st.success(safe_markdown(row.answer or "The model answered."), icon=":material/check_circle:")
    elif row.final:
        st.error(plain(row.error or "The test was cancelled."), icon=":material/error:")
    elif row.state in ("queued", "held") and not person.feed.workers:
        st.info("Waiting: no worker is online.", icon=":material/hourglass_top:")
    elif row.state == "held" and row.held_because:
        st.info(plain(row.held_because), icon=":material/hourglass_top:")
    else:
        st.info("Asking the model…", icon=":material/hourglass_top:")
        if row.error:
            small(plain(row.error))
    front.watch(f"watch-probe-{task_id}", [f"task:{task_id}"], view.number)


def _how() -> None:
    st.markdown(
        "Put one of these into the file `.env` in the project's folder, then restart. The model's key stays "
        "with the worker; this page never sees it."
    )
    st.markdown("OpenAI")
    st.code("OPENAI_API_KEY=sk-…", language="ini")
    st.markdown("Ollama on this computer")
    st.code(
        "OPENAI_BASE_URL=http://127.0.0.1:11434/v1\nPYTHONIC_MODEL=the name of a model you have pulled",
        language="ini",
    )
    st.markdown("Any other server with OpenAI's interface")
    st.code(
        "OPENAI_BASE_URL=https://models.example.org/v1\nOPENAI_API_KEY=its key\nPYTHONIC_MODEL=its model",
        language="ini",
    )
