"""A person's rules: what happens by itself when a task's state changes, and what could not be delivered."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from live import front
from live.feed import RULES
from live.person import Person
from live.rule_desk import DELIVERIES_SHOWN, DeliveryRow, RuleRow
from live.rule_words import delivery_line, then, when
from live.wording import counted, plain, problem
from pages import rule_form, visit
from pages.text import small
from pythonic_assistant.domain.errors import AssistantError

logger = logging.getLogger(__name__)

_OPEN, _REMOVED, _SHOWN = "rules_open", "rule_removed", "rule_shown"
_ICONS = {"webhook": ":material/webhook:", "email": ":material/mail:", "task": ":material/playlist_add:"}


def show() -> None:
    """Open the dialog, in its first state.

    It is the whole page that draws it: a dialog of the sidebar would go whenever the sidebar is redrawn.
    """
    _close()
    st.session_state[_OPEN] = True
    st.rerun()


def keep_open(person: Person) -> None:
    """Draw the dialog again when the whole page is, which may be at any moment: what is typed has to stay."""
    if st.session_state.get(_OPEN):
        _dialog(person)


def _close() -> None:
    for name in (_OPEN, _REMOVED, _SHOWN):
        st.session_state.pop(name, None)
    rule_form.forget()


@st.dialog("Rules", width="large", icon=":material/bolt:", on_dismiss=_close)
def _dialog(person: Person) -> None:
    with visit.calmly():
        seen = person.feed.number(RULES)
        rules = visit.wait_for(person.rule_desk.rules())
        small("What happens by itself when the state of one of your tasks changes.")
        front.watch("watch-rules", [RULES], seen)
        rule_form.tell()
        if any(rule.action == "email" and rule.enabled for rule in rules):
            missing = visit.wait_for(person.rule_desk.mail_problem(None))
            if missing:
                st.info(plain(missing), icon=":material/unsubscribe:")
        if not rules:
            st.info(
                "You have none. For instance: an e-mail when a task fails, a webhook to your chat when one "
                "is done, or a new task that looks into a failure.",
                icon=":material/lightbulb:",
            )
        for rule in rules:
            _rule(person, rule)
        rule_form.show(person)


def _rule(person: Person, rule: RuleRow) -> None:
    with st.container(border=True, gap="xsmall", key=f"rule-card-{rule.id}"):
        with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
            st.markdown(f"{_ICONS[rule.action]} **{plain(rule.name)}**", width="stretch")
            _menu(person, rule)
        small(f"{when(rule)}, {then(rule)}.")
        if rule.secret:
            small(f":material/key: Signed with the secret {plain(rule.secret)}")
        if not rule.enabled:
            why = plain(rule.paused_because or "")
            st.badge("paused", icon=":material/pause:", color="gray")
            if why:
                small(why)
        if st.session_state.get(_REMOVED) == rule.id:
            _ask_to_remove(person, rule)
        _deliveries(person, rule)


def _menu(person: Person, rule: RuleRow) -> None:
    switch = "Pause" if rule.enabled else "Go on"
    chosen = st.menu_button(
        "",
        ["Edit", switch, *(["Try it now"] if rule.enabled else []), "Remove"],
        key=f"rule-menu-{rule.id}",
        type="tertiary",
        icon=":material/more_horiz:",
        help=f"Change “{plain(rule.name)}”",
    )
    match chosen:
        case "Edit":
            rule_form.edit(rule)
        case "Pause" | "Go on":
            _do(person.rule_desk.switch(rule.id, on=not rule.enabled))
        case "Try it now":
            st.session_state[_SHOWN] = rule.id
            _do(person.rule_desk.try_now(rule.id))
        case "Remove":
            st.session_state[_REMOVED] = rule.id
        case _:
            return
    st.rerun(scope="fragment")


def _ask_to_remove(person: Person, rule: RuleRow) -> None:
    st.markdown(f"Remove “{plain(rule.name)}” with all that it has to deliver?")
    with st.container(horizontal=True):
        st.button(
            "Remove it",
            key=f"really-remove-rule-{rule.id}",
            type="primary",
            icon=":material/delete:",
            on_click=_remove,
            args=(person, rule),
        )
        st.button("Keep", key=f"keep-rule-{rule.id}", on_click=st.session_state.pop, args=(_REMOVED, None))


def _remove(person: Person, rule: RuleRow) -> None:
    st.session_state.pop(_REMOVED, None)
    rule_form.forget()
    _do(person.rule_desk.remove(rule.id))


def _deliveries(person: Person, rule: RuleRow) -> None:
    shown = st.session_state.get(_SHOWN) == rule.id
    label = f":red[{counted(rule.dead, 'dead letter')}]" if rule.dead else "Deliveries"
    st.button(
        label,
        key=f"deliveries-{rule.id}",
        type="tertiary",
        icon=":material/expand_less:" if shown else ":material/expand_more:",
        on_click=_toggle,
        args=(rule.id,),
    )
    if not shown:
        return
    rows = visit.wait_for(person.rule_desk.deliveries(rule.id, dead=False))
    dead = visit.wait_for(person.rule_desk.deliveries(rule.id, dead=True)) if rule.dead else ()
    known = {row.id for row in rows}
    if not rows:
        small("Nothing was to be delivered yet.")
    now = datetime.now(UTC)
    for row in (*rows, *(row for row in dead if row.id not in known)):
        _delivery(person, rule, row, now)
    if len(rows) == DELIVERIES_SHOWN:
        small(f"These are the newest {DELIVERIES_SHOWN}; `pythonic rules deliveries` shows more.")


def _delivery(person: Person, rule: RuleRow, row: DeliveryRow, now: datetime) -> None:
    with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
        with st.container(gap=None, width="stretch"):
            st.markdown(delivery_line(row, now))
            if row.last_error and row.state != "delivered":
                small(plain(row.last_error))
        if row.state == "dead" and rule.enabled:
            st.button(
                "Send again",
                key=f"resend-{row.id}",
                icon=":material/replay:",
                on_click=_resend,
                args=(person, row.id),
            )


def _toggle(rule_id: str) -> None:
    shown = st.session_state.get(_SHOWN) == rule_id
    st.session_state[_SHOWN] = None if shown else rule_id


def _resend(person: Person, delivery_id: str) -> None:
    _do(person.rule_desk.resend(delivery_id))


def _do(work: Coroutine[Any, Any, Any]) -> None:
    """Do what a person asked for; a failure is told above the rules."""
    rule_form.say()
    try:
        visit.wait_for(work)
    except AssistantError as error:
        logger.info("a rule was not changed: %s", error, extra={"action": "change_rule"})
        rule_form.say(wrong=problem(error))
