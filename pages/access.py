"""What code of a thread may reach, and how much its next task may use: a control beside the assistant."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import streamlit as st

from live.own_limits import FIELDS, read_own_limits
from live.person import Person
from live.rows import AssistantRow
from live.secret_desk import SecretRow
from live.wording import plain, problem, reach
from pages import budget, secrets, visit
from pages.text import small
from pythonic_assistant.domain.errors import AssistantError, InvalidInputError
from pythonic_assistant.domain.hosts import read_hosts

logger = logging.getLogger(__name__)

# Of a thread that does not exist yet: its hosts, and its id once it was begun without a task in it.
_WANTED, _BEGUN = "wanted_hosts", "begun_thread"
_HOST, _HOST_PROBLEM = "new_host", "host_problem"
_LIMITS, _LIMITS_PROBLEM, _LIMITS_ROUND = "own_limits", "own_limits_problem", "own_limits_round"


@st.fragment
def show(thread_id: str | None, assistant: AssistantRow) -> None:
    """Draw the control."""
    with visit.calmly():
        person = visit.person()
        own = _own(person, thread_id)
        unsafe = person.feed.has_unsafe()
        words = "all sites open" if unsafe else reach({*own, *assistant.hosts})
        # Not told of its opening: with `on_change` a popover is another one, and closed, under another label.
        with st.popover(
            words[0].upper() + words[1:] + (" · own limits" if limits() else ""),
            icon=_icon(unsafe=unsafe, some=bool(own or assistant.hosts)),
            key="access",
        ):
            if unsafe:
                st.error(
                    "A worker without a sandbox is online: code that it runs reaches every site, whatever is "
                    "allowed here.",
                    icon=":material/gpp_bad:",
                )
            _hosts(person, thread_id, own, assistant)
            _secrets(person, (*own, *assistant.hosts))
            _limits(assistant)


def _icon(*, unsafe: bool, some: bool) -> str:
    if unsafe:
        return ":material/gpp_bad:"
    return ":material/public:" if some else ":material/public_off:"


def limits() -> Mapping[str, float]:
    """The limits of the next task, as the database takes them."""
    return st.session_state.get(_LIMITS) or {}


def begin(person: Person, assistant_id: str) -> str | None:
    """Begin the thread of a first task whose code may reach something; None when nothing was allowed.

    The thread is there before its task, so that no worker claims the task without its hosts. It is
    remembered until the task is known to have arrived.
    """
    hosts = _wanted()
    if not hosts:
        return None
    begun: str | None = st.session_state.get(_BEGUN)
    if begun is not None:
        try:
            visit.wait_for(person.desk.allow(begun, hosts))
        except InvalidInputError:
            begun = None  # deleted in another tab meanwhile
    if begun is None:
        begun = visit.wait_for(person.desk.begin_thread(assistant_id, hosts))
        st.session_state[_BEGUN] = begun
    return begun


def forget() -> None:
    """Forget what was meant for the next task only: it was sent, or the person went elsewhere."""
    for name in (_WANTED, _BEGUN, _LIMITS, _HOST_PROBLEM, _LIMITS_PROBLEM):
        st.session_state.pop(name, None)
    # Other fields: the browser would go on to show, and send, what was written into these.
    st.session_state[_LIMITS_ROUND] = _round() + 1


_NAMES = tuple(field.name for field in FIELDS)


def _round() -> int:
    return int(st.session_state.get(_LIMITS_ROUND, 0))


def _limit_key(name: str) -> str:
    return f"limit-{name}-{_round()}"


def _wanted() -> tuple[str, ...]:
    return st.session_state.get(_WANTED, ())


def _own(person: Person, thread_id: str | None) -> tuple[str, ...]:
    return _wanted() if thread_id is None else visit.wait_for(person.hosts_of(thread_id))


def _hosts(person: Person, thread_id: str | None, own: tuple[str, ...], assistant: AssistantRow) -> None:
    st.markdown("**Sites that code in this thread may reach**")
    if not own and not assistant.hosts:
        small("None." if person.feed.has_unsafe() else "None: code runs without internet.")
    with st.container(gap="xxsmall", key="allowed-hosts"):
        for host in own:
            others = tuple(other for other in own if other != host)
            with st.container(horizontal=True, wrap=False, gap="small", vertical_alignment="center"):
                st.markdown(plain(host), width="stretch")
                st.button(
                    f"Forbid {plain(host)}",  # read out; to the eye the icon and the hint say it
                    key=f"forbid-{host}",
                    type="tertiary",
                    icon=":material/close:",
                    help="Forbid",
                    on_click=_forbid,
                    args=(person, thread_id, others),
                )
    if assistant.hosts:
        names = ", ".join(plain(host) for host in assistant.hosts)
        small(f"The assistant {plain(assistant.name)} allows in every thread: {names}")
    with (
        st.form("allow_host", border=False),
        st.container(horizontal=True, wrap=False, vertical_alignment="bottom", gap="small"),
    ):
        st.text_input("Host name", key=_HOST, placeholder="api.github.com", autocomplete="off")
        st.form_submit_button("Allow", icon=":material/add:", on_click=_allow, args=(person, thread_id, own))
    if st.session_state.get(_HOST_PROBLEM):
        st.warning(plain(st.session_state[_HOST_PROBLEM]), icon=":material/info:")
    small("Code may send a site anything it sees in this thread: allow only what the task needs.")


def _allow(person: Person, thread_id: str | None, own: tuple[str, ...]) -> None:
    written = re.split(r"[\s,;]+", str(st.session_state.get(_HOST) or "").strip())
    if not any(written):
        st.session_state[_HOST_PROBLEM] = "Write a host's name, such as api.github.com."
        return
    try:
        hosts = read_hosts((*own, *filter(None, written)))
    except InvalidInputError as error:
        st.session_state[_HOST_PROBLEM] = str(error)
        return
    if _change(person, thread_id, hosts):
        st.session_state[_HOST] = ""


def _forbid(person: Person, thread_id: str | None, left: tuple[str, ...]) -> None:
    _change(person, thread_id, left)


def _change(person: Person, thread_id: str | None, hosts: tuple[str, ...]) -> bool:
    """Keep another list of hosts; returns whether it is kept."""
    st.session_state.pop(_HOST_PROBLEM, None)
    if thread_id is None:
        st.session_state[_WANTED] = hosts
        return True
    try:
        visit.wait_for(person.allow(thread_id, hosts))
    except AssistantError as error:
        logger.info("hosts not changed: %s", error, extra={"action": "allow"})
        st.session_state[_HOST_PROBLEM] = problem(error)
        return False
    return True


def _secrets(person: Person, allowed: tuple[str, ...]) -> None:
    usable = [
        (secret, hosts)
        for secret in (visit.wait_for(person.secret_desk.known()) if allowed else ())
        if (hosts := secret.usable(allowed))
    ]
    for secret, hosts in usable:
        small(_usable(secret, hosts))
    if allowed and not usable:
        small(":material/key_off: No secret of yours is for these sites.")
    if st.button("Secrets", key="secrets_from_access", icon=":material/key:", type="tertiary"):
        secrets.show(person)


def _usable(secret: SecretRow, hosts: tuple[str, ...]) -> str:
    names = ", ".join(plain(host) for host in hosts)
    if secret.raw:
        return f":material/warning: Code sees the value of {plain(secret.name)}"
    return f":material/key: {plain(secret.name)} is put in for {names}"


def _limits(assistant: AssistantRow) -> None:
    with st.expander("Limits for the next task", expanded=bool(limits()), type="compact"):
        if st.session_state.get(_LIMITS_PROBLEM):
            st.warning(plain(st.session_state[_LIMITS_PROBLEM]), icon=":material/info:")
        budget.line(visit.person())
        for column, fields in zip(st.columns(2, gap="small"), (FIELDS[::2], FIELDS[1::2]), strict=True):
            with column:
                for field in fields:
                    st.number_input(
                        f"{field.label} ({field.unit})",
                        value=None,
                        step=1,
                        key=_limit_key(field.name),
                        placeholder=f"usually {field.usual_for(assistant.limits):,}",
                        on_change=_take_limits,
                    )
        small("Empty is as usual. The worker may set lower ones.")


def _take_limits() -> None:
    st.session_state.pop(_LIMITS_PROBLEM, None)
    try:
        st.session_state[_LIMITS] = read_own_limits(
            {name: st.session_state.get(_limit_key(name)) for name in _NAMES}
        )
    except InvalidInputError as error:
        st.session_state[_LIMITS_PROBLEM] = str(error)
