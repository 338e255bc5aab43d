"""What a task did outside: what was sent, when, and what came back, from the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import streamlit as st

from live.approval_desk import MOST_EFFECTS, EffectRow
from live.feed import TaskView
from live.person import Person
from live.story import Story
from live.wording import counted, plain
from pages import preview, visit
from pages.text import local_time, offer_all, small, wants_all
from pythonic_assistant.domain.preview import of_request, value_text
from pythonic_assistant.domain.visible import visible

_FIRST = 8
_WORDS = {
    "proposed": ":orange[:material/front_hand: waits for you]",
    "approved": ":blue[:material/schedule: approved, not yet done]",
    "started": ":blue[:material/pending: begun]",
    "succeeded": ":green[:material/check: done]",
    "failed": ":red[:material/close: not done]",
    "unknown": ":orange[:material/help: outcome not known]",
    "refused": ":red[:material/block: refused]",
    "skipped": ":gray[:material/block: left out]",
}


def show(person: Person, view: TaskView, story: Story) -> None:
    """Draw the actions of a task, if there are any."""
    outside = story.outside
    asked = tuple((one.id, one.state) for one in view.approvals)
    if not outside.requests and not outside.tools and not asked:
        return
    row = view.row
    stamp = (row.attempt, row.state, len(outside.requests), len(outside.tools), asked)
    effects = visit.wait_for(person.effects(row.id, stamp))
    if not effects:
        return
    done = sum(one.state == "succeeded" for one in effects)
    more = "more than " if len(effects) >= MOST_EFFECTS else ""
    label = f"Outside: {more}{counted(len(effects), 'action')}, {done:,} done"
    key = f"effects-{row.id}"
    with (
        st.expander(label, key=key, icon=":material/output:", type="step"),
        st.container(gap="small", key=f"reached-{key}"),
    ):
        shown = effects if wants_all(key) else effects[:_FIRST]
        for effect in shown:
            _effect(effect)
        if len(shown) < len(effects):
            offer_all(key, f"Show {len(effects) - len(shown):,} more")


def _effect(effect: EffectRow) -> None:
    about: list[str] = []
    if effect.started_at:
        about.append(local_time(effect.started_at, seconds=True))
    if effect.given_back:
        about.append(f"given back from the ledger in attempt {effect.met_attempt}, not done again")
    mark = _WORDS.get(effect.state, plain(effect.state))
    parts = "".join(f" :small[:gray[· {plain(part)}]]" for part in about)
    error = f"  \n{plain(visible(effect.error))}" if effect.error else ""
    st.markdown(f"{mark} **{plain(visible(effect.name, line=True))}**{parts}{error}")
    words = "What was sent, and what came back" if effect.started_at else "What would have been done"
    if st.toggle(words, key=f"effect-{effect.id}"):
        preview.show(of_request(effect.kind, effect.name, effect.request))
        if effect.result is not None:
            preview.show_value("Result", _result(effect))
        elif effect.state == "succeeded":
            small("No result was kept.")


def _result(effect: EffectRow) -> str:
    came: Any = effect.result
    if not isinstance(came, dict):
        return value_text(came)
    result = cast("Mapping[str, Any]", came)
    if effect.kind == "request" and "status" in result:
        lines = [f"{result.get('status')} {result.get('reason') or ''}".strip()]
        lines += [": ".join(map(str, pair)) for pair in result.get("headers") or ()]
        shown = "\n".join(visible(line, line=True) for line in lines)
        rest = {name: value for name, value in result.items() if name not in ("status", "reason", "headers")}
        body = rest.pop("text", None)
        return "\n\n".join(filter(None, (shown, value_text(body or ""), value_text(rest) if rest else "")))
    return value_text(result)
