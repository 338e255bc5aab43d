"""The browser's side of the page, as one small Streamlit component with three roles."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import streamlit as st
from streamlit.components.v2 import component

_HERE = Path(__file__).parent
_HTML = '<div id="pythonic-live"></div>'
_COMPONENT = component(
    "pythonic_live",
    html=_HTML,
    css=(_HERE / "front.css").read_text(encoding="utf-8"),
    js=(_HERE / "front.js").read_text(encoding="utf-8"),
)


def watch(
    key: str,
    channels: Sequence[str],
    seen: int,
    *,
    text: str = "",
    since: float | None = None,
    state: str = "",
    focus: bool = False,
    rank: int = 1,
) -> None:
    """Redraw the fragment that this is mounted in whenever a channel goes beyond `seen`.

    Args:
        key: unique on the page.
        channels: names of the person's feed.
        seen: the largest of their numbers, taken before the content was read.
        text: small words to show in its place.
        since: Unix time in seconds from which a clock runs instead of `text`.
        state: "connected" or "lost"; then the words change when the socket itself is lost.
        focus: scroll here when it appears.
        rank: who is redrawn first when several have to be: the smaller number.
    """
    _COMPONENT(
        key=key,
        data={
            "role": "watch",
            "channels": list(channels),
            "seen": seen,
            "text": text,
            "since": since,
            "now": time.time() if since is not None else None,
            "state": state,
            "focus": focus,
            "rank": rank,
        },
        on_changed_change=_nothing,
        width="content",
        height="content",
    )


def announcer(*, on_unsent: Callable[[Sequence[str], str], None], gone: int) -> None:
    """Mount the hidden region that reads changes of state out, and what concerns the whole page.

    Args:
        on_unsent: told the names of files that could not be attached, and why, when somebody sends in spite
            of them; nothing was sent then.
        gone: how often the person went to another thread; a growth closes the sidebar of a narrow window.
    """

    def unsent() -> None:
        told: Any = getattr(st.session_state.get("announcer"), "unsent", None)
        if isinstance(told, Mapping):
            given = cast("Mapping[str, Any]", told)
            on_unsent([str(name) for name in given.get("names") or ()], str(given.get("why") or ""))

    _COMPONENT(
        key="announcer",
        data={"role": "announcer", "gone": gone},
        on_unsent_change=unsent,
        width="content",
        height="content",
    )


def post(key: str, address: str, body: Mapping[str, Any], once: str) -> None:
    """Post to one of our routes and reload the page. `once` names this request, so that it is sent once."""
    _COMPONENT(
        key=key,
        data={"role": "post", "address": address, "body": dict(body), "once": once},
        width="content",
        height="content",
    )


def _nothing() -> None:
    """A trigger needs a callback to exist; the redraw itself is the reaction."""
