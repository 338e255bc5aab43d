"""What a task waits for: the exact preview and the decision, or who decided what and when."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

import streamlit as st

from live.feed import TaskView
from live.person import Person
from live.wording import plain, problem, until
from pages import preview, visit
from pages.text import local_time, small
from pythonic_assistant.domain.decision import (
    OUTCOMES,
    Approval,
    expiry_words,
    rule_words,
    settled_words,
)
from pythonic_assistant.domain.errors import AssistantError
from pythonic_assistant.domain.preview import sections
from pythonic_assistant.domain.visible import visible

logger = logging.getLogger(__name__)

ARMED_SECONDS = 1.0
"""Buttons that have just appeared take nothing: the click was meant for what stood there before. The browser
holds it back, see live/page.css; this holds for clicks that come in all the same."""
_SEEN, _HERE = "asked_seen", "decided_here"
_TITLES = {
    "effect": ":orange[:material/front_hand:] **Your approval is needed**",
    "unknown": ":orange[:material/help:] **It is not known whether this happened**",
    "question": ":blue[:material/chat_bubble:] **The assistant asks you**",
}
_ICONS = {
    "approved": ":green[:material/check_circle:]",
    "answered": ":green[:material/check_circle:]",
    "refused": ":red[:material/block:]",
    "expired": ":orange[:material/timer_off:]",
}


def show_all(person: Person, view: TaskView) -> None:
    """Draw what a task waits for, and what was decided of it while it was in sight."""
    for approval in view.approvals:
        if approval.pending:
            show(person, approval)
        elif not view.row.final or approval.id in seen():
            settled(person, approval)


def show(person: Person, approval: Approval) -> None:
    """Draw something that waits, with the means to decide it."""
    _seen().setdefault(approval.id, time.monotonic())
    with st.container(border=True, gap="small", key=f"asked-{approval.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(_TITLES[approval.kind])
            if approval.kind == "effect" and approval.risk == "irreversible":
                st.badge("cannot be undone", icon=":material/warning:", color="red")
        st.text(visible(approval.question))
        if approval.kind != "question":
            preview.show(sections(approval.preview))
        _decision(person, approval)
        if told := st.session_state.get(f"asked-told-{approval.id}"):
            st.warning(plain(str(told)), icon=":material/info:")
        when = until(approval.expires_at, datetime.now(UTC))
        small(
            f"Expires {when}, {local_time(approval.expires_at)}: {expiry_words(approval)}. "
            f"Request {approval.id}."
        )


def settled(person: Person, approval: Approval) -> None:
    """Draw what was decided in a line: what, by whom, when."""
    icon = _ICONS.get(approval.state, ":gray[:material/block:]")
    what = visible(approval.question.partition("\n")[0], line=True)
    name = visible(approval.action, line=True) if approval.kind != "question" else what
    when = f", {local_time(approval.decided_at)}" if approval.decided_at else ""
    st.markdown(
        f"{icon} **{plain(settled_words(approval))}**{_by(person, approval)}{when}  \n"
        f":small[:gray[{plain(name)}]]"
    )


def seen() -> frozenset[int]:
    """What was drawn in this tab to be decided."""
    return frozenset(_seen())


def _by(person: Person, approval: Approval) -> str:
    if approval.state in ("expired", "cancelled") or approval.decided_by is None:
        return ""
    if approval.id in st.session_state.get(_HERE, ()):
        return " by you"
    if approval.decided_by == person.user_id:
        return " by you, not in this tab"
    return " by somebody else"


def _seen() -> dict[int, float]:
    return st.session_state.setdefault(_SEEN, {})


def _decision(person: Person, approval: Approval) -> None:
    match approval.kind:
        case "effect":
            _approval(person, approval)
        case "unknown":
            _outcome(person, approval)
        case "question":
            _answer(person, approval)


def _approval(person: Person, approval: Approval) -> None:
    if approval.standing is not None:
        of_tool = bool(approval.standing.get("tool"))
        # Words of ours alone: what is read out of a box is its label with all its Markdown.
        st.checkbox(
            "Always allow this tool for this recipient"
            if of_tool
            else "Always allow this method at this site",
            key=f"always-{approval.id}",
        )
        small(
            f"{plain(rule_words(approval.standing)[1])} It counts with Approve. Take it back any time under "
            "Waiting for you."
        )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        _button(person, approval, "Approve", "approve", ":material/check:", primary=True)
        _button(person, approval, "Refuse", "refuse", ":material/block:")
        st.text_input(
            "Why not? The assistant reads it.",
            key=f"why-{approval.id}",
            placeholder="Why not? (optional, the assistant reads it)",
            label_visibility="collapsed",
            max_chars=2000,
            autocomplete="off",
            width=320,
        )


def _outcome(person: Person, approval: Approval) -> None:
    icons = {"happened": ":material/check:", "again": ":material/replay:", "stop": ":material/stop_circle:"}
    with st.container(horizontal=True, gap="small"):
        for decision, label in OUTCOMES.items():
            _button(person, approval, label, decision, icons[decision])


def _answer(person: Person, approval: Approval) -> None:
    key = f"answer-{approval.id}"
    if approval.choices:
        st.radio(
            "Your answer",
            approval.choices,
            index=None,
            format_func=lambda choice: plain(visible(choice)),
            key=key,
        )
    else:
        st.text_area("Your answer", key=key, height=90)
    _button(person, approval, "Answer", "answer", ":material/send:", primary=True)


def _button(
    person: Person, approval: Approval, label: str, decision: str, icon: str, *, primary: bool = False
) -> None:
    st.button(
        label,
        key=f"decide-{decision}-{approval.id}",
        icon=icon,
        type="primary" if primary else "secondary",
        on_click=_decide,
        args=(person, approval, decision),
    )


def _decide(person: Person, approval: Approval, decision: str) -> None:
    told = f"asked-told-{approval.id}"
    st.session_state.pop(told, None)
    if time.monotonic() - _seen().get(approval.id, 0.0) < ARMED_SECONDS:
        st.session_state[told] = "That was too quick to be meant for this: look at it, then decide."
        return
    answer: str | None = None
    if decision == "answer":
        answer = str(st.session_state.get(f"answer-{approval.id}") or "")
        if not answer.strip():
            st.session_state[told] = (
                "Choose one of the answers." if approval.choices else "The answer is empty: write one."
            )
            return
    elif decision == "refuse":
        answer = str(st.session_state.get(f"why-{approval.id}") or "").strip() or None
    always = decision == "approve" and bool(st.session_state.get(f"always-{approval.id}"))
    try:
        visit.wait_for(person.decide(approval, decision, answer, always=always))
    except AssistantError as error:
        logger.info("not decided: %s", error, extra={"action": "decide"})
        st.session_state[told] = problem(error)
    else:
        st.session_state.setdefault(_HERE, set()).add(approval.id)
