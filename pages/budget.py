"""What the person's tasks cost, and how much a day may cost: a dialog, and a line beside the limits."""

from __future__ import annotations

import logging
from functools import cache
from zoneinfo import available_timezones

import streamlit as st

from live.budget_desk import DaySpent, Spending
from live.person import Person
from live.wording import budget, counted, dollars, plain, problem
from pages import visit
from pages.text import small
from pythonic_assistant.domain.errors import AssistantError

logger = logging.getLogger(__name__)

_OPEN, _SAID, _WRONG = "budget_open", "budget_said", "budget_wrong"
_COST, _TOKENS, _ZONE = "budget_cost", "budget_tokens", "budget_zone"


def show() -> None:
    """Open the dialog; it is the whole page that draws it, because the sidebar is redrawn on its own."""
    _close()
    st.session_state[_OPEN] = True
    st.rerun()


def keep_open(person: Person) -> None:
    """Draw the dialog again when the whole page is: what is typed has to stay."""
    if st.session_state.get(_OPEN):
        _dialog(person)


def line(person: Person) -> None:
    """In a line, what today's tasks have cost so far; nothing while it cannot be read."""
    try:
        today = visit.wait_for(person.budget_desk.known())
    except AssistantError as error:
        logger.info("spending not read: %s", error, extra={"action": "budget"})
        return
    small(f"Today: {in_words(today)}")


def in_words(today: Spending) -> str:
    """What was spent of the budget: "\\$0.12 of \\$5.00, 12,300 tokens"."""
    money = dollars(today.cost) + (f" of {budget(today.cost_limit)}" if today.cost_limit is not None else "")
    tokens = f"{today.tokens:,}" + (f" of {today.tokens_limit:,}" if today.tokens_limit is not None else "")
    return plain(f"{money}, {tokens} tokens")


def _close() -> None:
    for name in (_OPEN, _SAID, _WRONG, _COST, _TOKENS, _ZONE):
        st.session_state.pop(name, None)


@st.dialog("Budget", width="medium", icon=":material/savings:", on_dismiss=_close)
def _dialog(person: Person) -> None:
    with visit.calmly():
        today = visit.wait_for(person.budget_desk.today())
        _today(today)
        _form(person, today)
        _days(visit.wait_for(person.budget_desk.days()))


def _today(today: Spending) -> None:
    if today.spent:
        st.warning(
            f"The budget of today is spent: tasks start again after midnight ({plain(today.time_zone)})"
            + (", or when you raise it." if not _of_operator(today) else "."),
            icon=":material/hourglass_bottom:",
        )
    st.markdown(f"**Today, {today.day:%-d %B}**")
    _bar(today.cost, today.cost_limit, dollars(today.cost), budget(today.cost_limit or 0.0))
    _bar(today.tokens, today.tokens_limit, f"{today.tokens:,} tokens", f"{today.tokens_limit or 0:,}")
    small(f"{counted(today.replies, 'model reply', 'model replies')} · days of {plain(today.time_zone)}")
    if today.unpriced:
        replies = counted(today.unpriced, "reply", "replies")
        small(
            f":material/info: The cost of {replies} is unknown and not in the sum: nobody has written down "
            "what the model costs."
        )
    if today.most_cost is not None or today.most_tokens is not None:
        parts = [
            budget(today.most_cost) if today.most_cost is not None else "",
            f"{today.most_tokens:,} tokens" if today.most_tokens is not None else "",
        ]
        small(plain(f"The operator allows you at most {' and '.join(filter(None, parts))} a day."))


def _of_operator(today: Spending) -> bool:
    """Whether it is the operator's budget that is spent."""
    return (today.most_cost is not None and today.cost >= today.most_cost) or (
        today.most_tokens is not None and today.tokens >= today.most_tokens
    )


def _bar(value: float, limit: float | None, words: str, limit_words: str) -> None:
    if limit is None:
        st.markdown(plain(words))
    else:
        part = 1.0 if limit == 0 else min(value / limit, 1.0)
        st.progress(part, text=plain(f"{words} of {limit_words}"))


@cache
def _zones() -> tuple[str, ...]:
    return tuple(sorted(zone for zone in available_timezones() if "/" in zone or zone == "UTC"))


def _form(person: Person, today: Spending) -> None:
    st.markdown("**Your budget for a day**")
    small("When it is spent, tasks that run go on, and further ones wait for the next day.")
    zone = today.time_zone
    if zone == "UTC" and today.own_cost is None and today.own_tokens is None:
        zone = st.context.timezone or zone  # nothing was set yet: the browser knows better
    zones = _zones() if zone in _zones() else (zone, *_zones())
    with st.form("budget", border=False):
        with st.container(horizontal=True, gap="small"):
            cost = st.number_input(
                "US dollars", value=today.own_cost, min_value=0.01, step=1.0, format="%.2f",
                placeholder="no budget", key=_COST,
            )  # fmt: skip
            tokens = st.number_input(
                "Tokens",
                value=today.own_tokens,
                min_value=1000,
                step=1000,
                placeholder="no budget",
                key=_TOKENS,
            )
        chosen = st.selectbox(
            "Time zone: the day ends at its midnight", zones, index=zones.index(zone), key=_ZONE
        )
        sent = st.form_submit_button("Save", type="primary", icon=":material/check:")
    if sent:
        _save(person, cost, tokens, chosen or zone)
    if st.session_state.get(_WRONG):
        st.warning(plain(st.session_state[_WRONG]), icon=":material/info:")
    elif st.session_state.get(_SAID):
        st.success(st.session_state[_SAID], icon=":material/check_circle:")


def _save(person: Person, cost: float | None, tokens: int | None, zone: str) -> None:
    st.session_state.pop(_WRONG, None)
    st.session_state.pop(_SAID, None)
    try:
        visit.wait_for(person.budget_desk.save(cost=cost, tokens=tokens, time_zone=zone))
    except AssistantError as error:
        logger.info("budget not saved: %s", error, extra={"action": "budget"})
        st.session_state[_WRONG] = problem(error)
        return
    st.session_state[_SAID] = "Saved."
    st.rerun(scope="fragment")


def _days(days: tuple[DaySpent, ...]) -> None:
    if not days:
        return
    with st.expander("Last days", type="compact"):
        rows = ["| Day | Model | Replies | Tokens | Cost |", "| --- | --- | ---: | ---: | ---: |"]
        for day in days[:60]:
            cost = "unknown" if day.cost is None else dollars(day.cost) + ("+" if day.unpriced else "")
            cells = (
                f"{day.day:%Y-%m-%d}",
                plain(day.model),
                f"{day.replies:,}",
                f"{day.tokens:,}",
                plain(cost),
            )
            rows.append(f"| {' | '.join(cells)} |")
        st.markdown("\n".join(rows))
        if any(day.unpriced and day.cost is not None for day in days[:60]):
            small("With +: some replies of that day have an unknown cost.")
