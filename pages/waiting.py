"""All that waits for the person, over all threads, and what they have allowed for good."""

from __future__ import annotations

import streamlit as st

from live import front
from live.feed import APPROVALS, STATUS
from live.person import Person
from live.wording import counted, plain, short
from pages import asked, visit
from pages.text import local_time, small
from pythonic_assistant.domain.decision import Approval, StandingRule, rule_words

_VIEW = "waiting"
_FIRST, _MORE = 20, 20
_PROMPT_CHARACTERS = 80


def wanted() -> bool:
    """Whether the address asks for this page."""
    return st.query_params.get("view") == _VIEW


def go() -> None:
    """Make it the page that is shown."""
    st.query_params.from_dict({"view": _VIEW})
    st.session_state["gone"] = int(st.session_state.get("gone", 0)) + 1
    st.rerun()


def button(person: Person) -> None:
    """The way here, with how much waits."""
    count = len(visit.wait_for(person.waiting()))
    label = f"Waiting for you :orange-badge[**{count:,}**]" if count else "Waiting for you"
    if st.button(
        label,
        key="waiting",
        icon=":material/front_hand:",
        width="stretch",
        help=f"{counted(count, 'decision')} of yours" if count else "Nothing waits",
    ):
        go()


def show(seen: int) -> None:
    """Draw the page.

    Args:
        seen: the number of the feed's latest change before the page began to be drawn.
    """
    with st.container(horizontal=True, gap=None):
        front.watch("watch-page", [STATUS], seen)
        front.announcer(on_unsent=lambda _names, _why: None, gone=int(st.session_state.get("gone", 0)))
    st.header("Waiting for you", anchor=False)
    _list()


@st.fragment
def _list() -> None:
    with visit.calmly():
        person = visit.person()
        number = person.feed.number(APPROVALS)
        waiting = visit.wait_for(person.waiting())
        front.watch("watch-waiting", [APPROVALS], number, rank=0)
        _settled(person, waiting)
        if not waiting:
            st.info(
                "Nothing waits. When a task needs your approval or your answer, it is listed here.",
                icon=":material/done_all:",
            )
        limit = int(st.session_state.setdefault("waiting_limit", _FIRST))
        for approval in waiting[:limit]:
            _task(approval)
            asked.show(person, approval)
        if len(waiting) > limit:
            st.button(
                f"Show {min(_MORE, len(waiting) - limit):,} more",
                key="more_waiting",
                type="tertiary",
                icon=":material/expand_more:",
                on_click=_show_more,
            )
        st.divider()
        _rules(person)


def _show_more() -> None:
    st.session_state["waiting_limit"] = int(st.session_state["waiting_limit"]) + _MORE


def _settled(person: Person, waiting: tuple[Approval, ...]) -> None:
    """What this tab has shown to be decided and was decided meanwhile, here or elsewhere."""
    gone = asked.seen() - {approval.id for approval in waiting}
    for approval in visit.wait_for(person.asked_before(gone)):
        asked.settled(person, approval)


def _task(approval: Approval) -> None:
    if st.button(
        plain(short(approval.prompt, _PROMPT_CHARACTERS)) or f"Task {approval.task_id}",
        key=f"to-task-{approval.id}",
        type="tertiary",
        icon=":material/arrow_forward:",
        help="Go to the task",
    ):
        task = {"task": str(approval.task_id)}
        st.query_params.from_dict({"thread": approval.thread_id, **task} if approval.thread_id else task)
        st.rerun()


def _rules(person: Person) -> None:
    st.subheader("Allowed for good", anchor=False)
    rules = visit.wait_for(person.approval_desk.rules())
    if not rules:
        small("Nothing: you are asked each time.")
    for rule in rules:
        _rule(person, rule)


def _rule(person: Person, rule: StandingRule) -> None:
    name, meaning = rule_words(rule.rule)
    with st.container(border=True, gap="xsmall", key=f"standing-{rule.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{plain(name)}**", width="stretch")
            if st.button("Take back", key=f"withdraw-{rule.id}", icon=":material/undo:") and visit.done(
                person.approval_desk.withdraw(rule.id)
            ):
                st.rerun(scope="fragment")
        small(f"{plain(meaning)} Since {local_time(rule.created_at)}.")
