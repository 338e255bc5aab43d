"""One task: what was asked, what happens, what came of it. Redrawn alone when its events come in."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from live import front
from live.feed import TaskView
from live.person import Person
from live.rows import TaskRow
from live.story import Story, tell
from live.wording import (
    UNSAFE,
    as_written,
    counted,
    dollars,
    duration,
    elapsed,
    no_worker_for,
    plain,
    size,
    status_words,
    until,
    walls,
)
from pages import asked, effects, outcome, timeline, visit
from pages.text import offer_all, small, wants_all

_CANCEL, _RETRY, _RETRY_START = "Cancel", "Retry from the failed step", "Retry from the start"
_GO_ON = "Go on"  # nothing failed in a cancelled task
_LONG_PROMPT = 1200


def show(task_id: int, *, focus: bool) -> None:
    """Draw the card of a task that is followed."""
    _card(task_id, focus)


@st.fragment
def _card(task_id: int, focus: bool) -> None:
    with visit.calmly():
        person = visit.person()
        view = person.feed.task(task_id)
        if view is None and visit.wait_for(person.open_task(task_id)) is not None:
            view = person.feed.task(task_id)
        if view is None:
            return
        with st.chat_message("user", avatar=":material/person:"):
            _asked(view.row)
        with st.chat_message("assistant", avatar=":material/terminal:"):
            _head(person, view, focus)
            _work(person, view)
            asked.show_all(person, view)
            outcome.show(person, view)
            _offer_retry(person, view.row)


def _asked(row: TaskRow) -> None:
    text = row.prompt
    if len(text) > _LONG_PROMPT and not wants_all(f"prompt-{row.id}"):
        st.markdown(as_written(text[:_LONG_PROMPT] + "…"))
        offer_all(f"prompt-{row.id}", f"Show all {len(text):,} characters")
    else:
        st.markdown(as_written(text))
    for file in row.inputs:
        small(f":material/attach_file: {plain(str(file.get('name')))} · {size(int(file.get('bytes') or 0))}")


def _head(person: Person, view: TaskView, focus: bool) -> None:
    row = view.row
    running = row.state == "running" and row.started_at is not None
    seconds = elapsed(row, datetime.now(UTC))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _badge(row)
        if row.scripted:
            st.badge("scripted demo, no AI", icon=":material/theater_comedy:", color="violet")
        if row.sandbox_tier == UNSAFE:
            words = "ran without a sandbox" if row.final else "runs without a sandbox"
            st.badge(words, icon=":material/gpp_bad:", color="red")
        front.watch(
            f"watch-{row.id}",
            [f"task:{row.id}"],
            view.number,
            text="" if seconds is None else duration(seconds),
            since=row.started_at.timestamp() if running and row.started_at else None,
            focus=focus,
            rank=0,
        )
        options = _options(row)
        if options:
            chosen = st.menu_button(
                "",
                options,
                key=f"menu-{row.id}-{row.state}",
                type="tertiary",
                icon=":material/more_horiz:",
                help="What can be done with this task",
            )
            _do(person, row, chosen)


def _badge(row: TaskRow) -> None:
    words = status_words(row)
    icon, color = {
        "Proven": (":material/verified:", "green"),
        "Unverified": (":material/help:", "orange"),
        "Refuted": (":material/cancel:", "red"),
        "Failed": (":material/error:", "red"),
        "Running": (":material/play_arrow:", "blue"),
        "Waits for you": (":material/front_hand:", "orange"),
        "Cancelled": (":material/block:", "gray"),
        "Cancelling…": (":material/block:", "orange"),
    }.get(words, (":material/schedule:", "gray"))
    st.badge(words, icon=icon, color=color)  # pyright: ignore[reportArgumentType]  the colours are literals above


def _options(row: TaskRow) -> list[str]:
    if row.cancelling:
        return []
    if not row.final:
        return [_CANCEL]
    return [_RETRY_START] if row.state == "succeeded" else [_retry_label(row), _RETRY_START]


def _retry_label(row: TaskRow) -> str:
    return _GO_ON if row.state == "cancelled" else _RETRY


def _do(person: Person, row: TaskRow, chosen: str | None) -> None:
    if chosen == _CANCEL:
        visit.done(person.desk.cancel(row.id))
    elif chosen is not None:
        visit.done(person.desk.retry(row.id, from_start=chosen == _RETRY_START))


def _work(person: Person, view: TaskView) -> None:
    row = view.row
    if not row.final:
        story = tell(view.events)
        _waiting(person, row)
        if row.state != "running" and not story.steps:
            return
        words = plain(story.activity) or ("Working" if row.state == "running" else "So far")
        box = st.expander(words, expanded=True, key=f"live-{row.id}", type="compact")
        with box:
            timeline.show(row.id, story, running=row.state == "running")
            effects.show(person, view, story)
            if story.sandbox:
                small(walls(story.sandbox, story.limits, story.hosts))
        return
    if row.started_at is None:
        return
    seconds = elapsed(row, datetime.now(UTC)) or 0.0
    box = st.expander(
        f"Worked for {duration(seconds)}" + (f", {counted(row.fixes, 'error')} fixed" if row.fixes else ""),
        key=f"work-{row.id}-{row.attempt}",
        type="compact",
        on_change="rerun",
    )
    if box.open:
        with box:
            visit.wait_for(person.tell(row.id))
            current = person.feed.task(row.id) or view
            story = tell(current.events)
            timeline.show(row.id, story, running=False)
            effects.show(person, current, story)
            small(walls(row.sandbox_tier or story.sandbox, story.limits, story.hosts))
            small(_figures(row, story))


def _waiting(person: Person, row: TaskRow) -> None:
    """Why a task that does not run does not run."""
    if row.state == "queued" and person.feed.connection == "connected" and not person.feed.workers:
        small("No worker is online. The task starts as soon as one is.")
    elif row.state == "queued" and person.feed.workers and not person.feed.can_run():
        small("No worker that is online can isolate code. The task starts as soon as one can.")
    elif row.state == "queued" and person.feed.workers and not person.feed.serves(row.labels):
        small(plain(no_worker_for(row.labels)))
    elif row.state == "held" and row.held_because:
        small(plain(row.held_because))
    elif row.state == "scheduled":
        when = until(row.run_at, datetime.now(UTC)) if row.run_at else "soon"
        if row.failures and row.error:
            st.warning(
                f"Attempt {row.failures} of {row.max_failures} failed: {plain(row.error)} Next try {when}.",
                icon=":material/refresh:",
            )
        else:
            small(f"Starts {when}.")
    elif row.cancelling:
        small("The worker is stopping the code.")


def _figures(row: TaskRow, story: Story) -> str:
    usage = row.usage
    parts = [f"Model: {plain(row.model_used or '?')}"]
    if usage.get("turns") is not None:
        tokens = int(usage.get("input_tokens") or 0) + int(usage.get("output_tokens") or 0)
        parts.append(counted(int(usage["turns"]), "model reply", "model replies"))
        parts.append(counted(tokens, "token"))
    if usage.get("cost") is not None:
        more = ", and replies of unknown cost" if usage.get("unpriced") else ""
        parts.append(plain(dollars(float(usage["cost"]))) + more)
    elif usage.get("turns"):
        parts.append("cost unknown")
    if story.fixes:
        parts.append(counted(story.fixes, "fix", "fixes"))
    parts.append(f"attempt {row.attempt}, task {row.id}")
    return " · ".join(parts)


def _offer_retry(person: Person, row: TaskRow) -> None:
    if row.state not in ("failed", "cancelled"):
        return
    with st.container(horizontal=True):
        if st.button(_retry_label(row), key=f"retry-{row.id}-{row.attempt}", icon=":material/replay:"):
            visit.done(person.desk.retry(row.id, from_start=False))
        if st.button(_RETRY_START, key=f"restart-{row.id}-{row.attempt}", icon=":material/restart_alt:"):
            visit.done(person.desk.retry(row.id, from_start=True))
