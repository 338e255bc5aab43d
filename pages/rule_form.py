"""The form that adds or changes a rule, and what is said about the last thing that was done."""

from __future__ import annotations

from typing import Any

import streamlit as st

from live.person import Person
from live.rule_desk import RuleRow, WantedRule
from live.rule_words import ACTION_CHOICES, STATE_CHOICES, VERDICT_CHOICES
from live.wording import plain, problem
from pages import visit
from pages.text import small
from pythonic_assistant.domain.errors import AssistantError
from pythonic_assistant.domain.rule import FIELDS

_EDITED, _ADDING, _SAID, _WRONG, _MADE = "rule_edited", "rule_adding", "rule_said", "rule_wrong", "rule_made"
_NAME, _STATES, _VERDICTS, _LABELS = "rule_name", "rule_states", "rule_verdicts", "rule_labels"
_ACTION, _URL, _TO, _PROMPT, _SAME = "rule_action", "rule_url", "rule_to", "rule_prompt", "rule_same"
_FIELDS = (_NAME, _STATES, _VERDICTS, _LABELS, _ACTION, _URL, _TO, _PROMPT, _SAME)


def forget() -> None:
    """Begin anew."""
    for name in (*_FIELDS, _EDITED, _ADDING, _SAID, _WRONG, _MADE):
        st.session_state.pop(name, None)


def say(said: str = "", *, wrong: str = "", made: str = "") -> None:
    """Set what is told at the next redraw: what was done, what went wrong, a secret that was made."""
    st.session_state.update({_SAID: said, _WRONG: wrong, _MADE: made})


def tell() -> None:
    """Draw what was said."""
    if st.session_state.get(_SAID):
        st.success(plain(st.session_state[_SAID]), icon=":material/check_circle:")
    if st.session_state.get(_MADE):
        st.markdown("Give the receiver this secret to check signatures with. It is shown this once only:")
        st.code(st.session_state[_MADE], language=None, wrap_lines=True)
    if st.session_state.get(_WRONG) and not _open():
        st.error(plain(st.session_state[_WRONG]), icon=":material/error:")


def edit(rule: RuleRow) -> None:
    """Fill the form with a rule."""
    forget()
    st.session_state.update(
        {
            _EDITED: rule,
            _NAME: rule.name,
            _STATES: list(rule.states),
            _VERDICTS: list(rule.pattern.get("verdicts", ())),
            _LABELS: ", ".join(rule.pattern.get("labels", ())),
            _ACTION: rule.action,
            _URL: rule.target.get("url", ""),
            _TO: rule.target.get("to", ""),
            _PROMPT: rule.target.get("prompt", ""),
            _SAME: bool(rule.target.get("same_thread")),
        }
    )


def show(person: Person) -> None:
    """Draw the form, or the button that opens it."""
    if not _open():
        st.button("Add a rule", key="add_rule", icon=":material/add:", on_click=_begin)
        return
    edited: RuleRow | None = st.session_state.get(_EDITED)
    with st.container(border=True, key="rule-form"):
        st.markdown(f"**Change “{plain(edited.name)}”**" if edited else "**Add a rule**")
        st.text_input("Name", key=_NAME, max_chars=100, placeholder="Tell the team", autocomplete="off")
        st.multiselect(
            "When a task becomes",
            list(STATE_CHOICES),
            key=_STATES,
            format_func=STATE_CHOICES.__getitem__,
            placeholder="Any state",
        )
        with st.expander("Only some tasks", icon=":material/filter_alt:", type="compact"):
            st.multiselect(
                "With the verdict",
                list(VERDICT_CHOICES),
                key=_VERDICTS,
                format_func=VERDICT_CHOICES.__getitem__,
                placeholder="Any verdict",
            )
            st.text_input("With one of the labels", key=_LABELS, placeholder="gpu, office-network")
        if not edited:
            st.segmented_control(
                "Then",
                list(ACTION_CHOICES),
                key=_ACTION,
                format_func=ACTION_CHOICES.__getitem__,
                required=True,
            )
        _target(str(st.session_state.get(_ACTION) or "email"), edited)
        if st.session_state.get(_WRONG):
            st.error(plain(st.session_state[_WRONG]), icon=":material/error:")
        with st.container(horizontal=True):
            st.button(
                "Save" if edited else "Add",
                key="save_rule",
                type="primary",
                icon=":material/check:",
                on_click=_save,
                args=(person,),
            )
            st.button("Cancel", key="cancel_rule", on_click=forget)


def _target(action: str, edited: RuleRow | None) -> None:
    match action:
        case "webhook":
            st.text_input("Address", key=_URL, placeholder="https://hooks.example.org/tasks", max_chars=2000)
            small(
                "Each is a POST of JSON, signed by Standard Webhooks. "
                + (
                    "Its secret stays; it is for this host alone."
                    if edited
                    else "A secret for it is made and shown once."
                )
            )
        case "email":
            st.text_input("To", key=_TO, placeholder="Your own address", max_chars=320)
        case _:
            st.text_area(
                "What it is to do",
                key=_PROMPT,
                max_chars=4000,
                height=120,
                placeholder="Task {task_id} failed: {error} Find out why, and say it in two sentences.",
            )
            small(f"Filled in: {', '.join(f'`{{{name}}}`' for name in FIELDS)}")
            st.checkbox("In the same thread", key=_SAME)


def _open() -> bool:
    return bool(st.session_state.get(_ADDING) or st.session_state.get(_EDITED))


def _begin() -> None:
    forget()
    st.session_state.update({_ADDING: True, _STATES: ["failed"], _ACTION: "email"})


def _save(person: Person) -> None:
    given = {name: st.session_state.get(name) for name in _FIELDS}
    edited: RuleRow | None = st.session_state.get(_EDITED)
    made = ""
    try:
        wanted = _wanted(given, edited)
        if edited:
            visit.wait_for(person.rule_desk.change(edited.id, wanted))
        else:
            made = visit.wait_for(person.rule_desk.add(wanted))
    except AssistantError as error:
        say(wrong=problem(error))
        return
    forget()
    say(f"{wanted.name} is saved.", made=made)


def _wanted(given: dict[str, Any], edited: RuleRow | None) -> WantedRule:
    action = edited.action if edited else str(given[_ACTION] or "email")
    labels = [part.strip() for part in str(given[_LABELS] or "").split(",") if part.strip()]
    pattern: dict[str, Any] = {
        "states": list(given[_STATES] or ()),
        "verdicts": list(given[_VERDICTS] or ()),
        "labels": labels,
        "assistants": list(edited.pattern.get("assistants", ())) if edited else [],
    }
    to = str(given[_TO] or "").strip()
    targets: dict[str, dict[str, Any]] = {
        "webhook": {"url": str(given[_URL] or "").strip()},
        "email": {"to": to} if to else {},
        "task": {"prompt": str(given[_PROMPT] or "")} | ({"same_thread": True} if given[_SAME] else {}),
    }
    target = targets[action]
    if edited and "assistant" in edited.target:
        target["assistant"] = edited.target["assistant"]
    return WantedRule(
        name=str(given[_NAME] or "").strip(),
        action=action,
        target=target,
        pattern={name: values for name, values in pattern.items() if values},
    )
