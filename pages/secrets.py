"""A person's secrets: which there are, and a form that adds or replaces one. Values are never shown."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime

import streamlit as st

from live.person import Person
from live.secret_desk import SecretRow
from live.wording import ago, plain, problem
from pages import visit
from pages.text import small
from pythonic_assistant.domain.errors import AssistantError
from pythonic_assistant.domain.hosts import read_hosts

logger = logging.getLogger(__name__)

_NAME, _HOSTS, _VALUE, _RAW = "secret_name", "secret_hosts", "secret_value", "secret_raw"
_REPLACED, _REMOVED, _SAID, _WRONG = "secret_replaced", "secret_removed", "secret_said", "secret_wrong"
_OPEN = "secrets_open"
# A field for several lines has the same look as one for a password: see live/page.css.
_SEVERAL, _LINES = "secret_several", "secret_lines"


def show(person: Person) -> None:
    """Open the dialog, in its first state."""
    _close()
    st.session_state[_OPEN] = True
    _dialog(person)


def keep_open(person: Person) -> None:
    """Draw the dialog again when the whole page is, which may be at any moment: what is typed has to stay."""
    if st.session_state.get(_OPEN):
        _dialog(person)


def _close() -> None:
    for name in (_OPEN, _NAME, _HOSTS, _VALUE, _SEVERAL, _LINES, _RAW, _REPLACED, _REMOVED, _SAID, _WRONG):
        st.session_state.pop(name, None)


@st.dialog("Secrets", width="medium", icon=":material/key:", on_dismiss=_close)
def _dialog(person: Person) -> None:
    with visit.calmly():
        secrets = visit.wait_for(person.secret_desk.secrets())
        st.markdown(
            "Code gets a placeholder in place of a secret. The value is put in on the way out, and only for "
            "the sites that you name here. It is never shown again."
        )
        if not secrets:
            _examples()
        for secret in secrets:
            _secret(person, secret)
        if st.session_state.get(_SAID):
            st.success(plain(st.session_state[_SAID]), icon=":material/check_circle:")
        _form(person, secrets)


def _examples() -> None:
    st.info(
        "You have none yet. Two examples:  \n"
        "`GITHUB_TOKEN` for `api.github.com`, to read your issues.  \n"
        "`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` for `ce.us-east-1.amazonaws.com`, to read "
        "your bill.",
        icon=":material/lightbulb:",
    )


def _secret(person: Person, secret: SecretRow) -> None:
    used = f"last used {ago(secret.last_used_at, datetime.now(UTC))}" if secret.last_used_at else "never used"
    with st.container(border=True, gap="xsmall", key=f"secret-card-{secret.id}"):
        with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
            st.markdown(f"**{plain(secret.name)}**", width="stretch")
            st.button(
                f"Replace {plain(secret.name)}",  # read out; to the eye the icon and the hint say it
                key=f"replace-{secret.id}",
                type="tertiary",
                icon=":material/edit:",
                help="Replace",
                on_click=_replace,
                args=(secret,),
            )
            st.button(
                f"Remove {plain(secret.name)}",
                key=f"remove-{secret.id}",
                type="tertiary",
                icon=":material/delete:",
                help="Remove",
                on_click=_ask_to_remove,
                args=(secret.id,),
            )
        small(f"For {', '.join(plain(host) for host in secret.hosts)} · {used}")
        if secret.raw:
            st.badge("code sees the value", icon=":material/warning:", color="orange")
        if st.session_state.get(_REMOVED) == secret.id:
            _remove(person, secret)


def _remove(person: Person, secret: SecretRow) -> None:
    st.markdown(f"Tasks can no longer use {plain(secret.name)}. Remove it for good?")
    with st.container(horizontal=True):
        st.button(
            "Remove it",
            key=f"really-remove-{secret.id}",
            type="primary",
            icon=":material/delete:",
            on_click=_really_remove,
            args=(person, secret),
        )
        st.button("Keep", key=f"keep-{secret.id}", on_click=_ask_to_remove, args=(None,))


def _form(person: Person, secrets: tuple[SecretRow, ...]) -> None:
    replaced: str | None = st.session_state.get(_REPLACED)
    st.markdown(f"**Replace {plain(replaced)}**" if replaced else "**Add a secret**")
    # Outside of the form, because a form is drawn again only when it is sent.
    several = st.toggle("The value has several lines, such as a PEM key", key=_SEVERAL)
    with st.form("secret", border=False):
        if not replaced:
            st.text_input("Name", key=_NAME, placeholder="GITHUB_TOKEN", max_chars=64, autocomplete="off")
        st.text_input(
            "Sites that may get it",
            key=_HOSTS,
            placeholder="api.github.com",
            help="Host names, with commas between them.",
            autocomplete="off",
        )
        if several:
            st.text_area("Value", key=_LINES, height=120)
        else:
            # A new password to the browser: it offers to fill in none of those that it knows.
            st.text_input("Value", key=_VALUE, type="password", autocomplete="new-password")
        st.checkbox("Give code the value itself", key=_RAW)
        small(
            ":material/warning: Only for what is not HTTP, such as a database: code can then read the value, "
            "use it anywhere it may reach, and write it into files."
        )
        if st.session_state.get(_WRONG):
            st.error(plain(st.session_state[_WRONG]), icon=":material/error:")
        with st.container(horizontal=True):
            st.form_submit_button(
                "Replace" if replaced else "Add",
                type="primary",
                icon=":material/lock:",
                on_click=_save,
                args=(person, tuple(secret.name for secret in secrets)),
            )
            if replaced:
                st.form_submit_button("Cancel", on_click=_replace, args=(None,))


def _save(person: Person, known: tuple[str, ...]) -> None:
    """Seal and send. The value leaves the session before anything else is done with it."""
    field = _LINES if st.session_state.get(_SEVERAL) else _VALUE
    value = str(st.session_state.get(field) or "").strip()
    st.session_state[field] = ""
    st.session_state.pop(_SAID, None)
    replaced: str | None = st.session_state.get(_REPLACED)
    name = replaced or str(st.session_state.get(_NAME) or "").strip()
    wrong = ""
    if not replaced and name in known:
        wrong = f"There is a secret {name} already: replace it with the pencil beside it."
    elif not value:
        wrong = "Enter the value."
    else:
        try:
            hosts = read_hosts(filter(None, re.split(r"[\s,;]+", str(st.session_state.get(_HOSTS) or ""))))
            visit.wait_for(person.secret_desk.save(name, hosts, value, raw=bool(st.session_state.get(_RAW))))
        except AssistantError as error:
            wrong = f"{problem(error)} Enter the value again: it was not kept."
            logger.info("a secret was not saved", extra={"action": "save_secret"})
    st.session_state[_WRONG] = wrong
    if not wrong:
        st.session_state[_SAID] = f"{name} is saved, sealed for the workers."
        _empty_form()


def _replace(secret: SecretRow | None) -> None:
    """Make the form that of a secret, or of a new one."""
    _empty_form()
    st.session_state.pop(_WRONG, None)
    st.session_state.pop(_SAID, None)
    if secret is not None:
        st.session_state[_REPLACED] = secret.name
        st.session_state[_HOSTS] = ", ".join(secret.hosts)
        st.session_state[_RAW] = secret.raw


def _empty_form() -> None:
    st.session_state.pop(_REPLACED, None)
    st.session_state.update({_NAME: "", _HOSTS: "", _VALUE: "", _LINES: "", _SEVERAL: False, _RAW: False})


def _ask_to_remove(secret_id: str | None) -> None:
    st.session_state.pop(_SAID, None)
    st.session_state[_REMOVED] = secret_id


def _really_remove(person: Person, secret: SecretRow) -> None:
    st.session_state.pop(_REMOVED, None)
    _replace(None)
    try:
        visit.wait_for(person.secret_desk.remove(secret.id))
    except AssistantError as error:
        logger.info("a secret was not removed: %s", error, extra={"action": "remove_secret"})
        st.session_state[_WRONG] = problem(error)
    else:
        st.session_state[_SAID] = f"{secret.name} is removed."
