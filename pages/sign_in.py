"""Signing in: one button for the local user, a form everywhere else."""

from __future__ import annotations

import time

import streamlit as st

from live import front
from live.accounts import Tokens
from live.runtime import LocalUser, runtime
from pages.text import small
from pages.visit import wait_for
from pythonic_assistant.domain.errors import AssistantError, StoreUnavailableError

# The embedded database is started at the same time as the page; on a first start it may need this long.
_PATIENCE_SECONDS = 30.0
_LEAST_PASSWORD = 8


def show() -> None:
    """Draw the page."""
    local_user = runtime().local_user
    _, middle, _ = st.columns([1, 4, 1])
    with middle:
        st.title("Pythonic Assistant", anchor=False)
        st.markdown("It plans, writes Python, runs it isolated, and proves its answer.")
        if local_user is not None:
            _local(local_user)
        else:
            _hosted()


def _local(user: LocalUser) -> None:
    small("Everything stays on this computer: the database, the files, and the code that runs.")
    if st.button("Open as local user", type="primary", icon=":material/login:"):
        with st.spinner("Starting…"):
            tokens = _patiently(user)
        if tokens is not None:
            _enter(tokens)


def _patiently(user: LocalUser) -> Tokens | None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return wait_for(runtime().accounts.sign_in(user.email, user.password.reveal()))
        except StoreUnavailableError:
            if time.monotonic() > until:
                st.error(
                    "The database does not answer. Look at the terminal where it runs, then try again.",
                    icon=":material/error:",
                )
                return None
            time.sleep(0.5)
        except AssistantError as error:
            st.error(str(error), icon=":material/error:")
            return None


def _hosted() -> None:
    known, new = st.tabs(["Sign in", "Create an account"])
    with known, st.form("sign_in", border=False):
        email = st.text_input("E-mail", type="email", autocomplete="username")
        password = st.text_input("Password", type="password", autocomplete="current-password")
        if st.form_submit_button("Sign in", type="primary"):
            _sign_in(email or "", password or "")
    with new, st.form("sign_up", border=False):
        email = st.text_input("E-mail", type="email", autocomplete="username", key="new_email")
        password = st.text_input(
            "Password",
            type="password",
            autocomplete="new-password",
            key="new_password",
            help=f"At least {_LEAST_PASSWORD} characters.",
        )
        if st.form_submit_button("Create the account", type="primary"):
            _sign_up(email or "", password or "")


def _sign_in(email: str, password: str) -> None:
    if not email.strip() or not password:
        st.warning("Enter your e-mail address and your password.", icon=":material/info:")
        return
    try:
        tokens = wait_for(runtime().accounts.sign_in(email.strip(), password))
    except AssistantError as error:
        st.error(str(error), icon=":material/error:")
        return
    _enter(tokens)


def _sign_up(email: str, password: str) -> None:
    if not email.strip() or len(password) < _LEAST_PASSWORD:
        st.warning(
            f"Enter an e-mail address and a password of at least {_LEAST_PASSWORD} characters.",
            icon=":material/info:",
        )
        return
    try:
        tokens = wait_for(runtime().accounts.sign_up(email.strip(), password))
    except AssistantError as error:
        st.error(str(error), icon=":material/error:")
        return
    if tokens is None:
        st.success(
            "Almost there: open the link in the message that was sent to you, then sign in.",
            icon=":material/mail:",
        )
        return
    _enter(tokens)


def _enter(tokens: Tokens) -> None:
    """Give the browser its cookie; it reloads the page by itself."""
    ticket = wait_for(runtime().book.open(tokens))
    small("Opening…")
    front.post("claim", "/pa/claim", {"ticket": ticket}, once=ticket)
