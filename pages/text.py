"""Small words, and long text that is cut until somebody wants all of it."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from live.wording import counted

_SHOWN_LINES = 20
_SHOWN_CHARACTERS = 4000


def small(text: str) -> None:
    """A few words of lesser weight, of which each line may have a colour of its own.

    Not `st.caption`, whose faded text has too little contrast (WCAG 2.2 asks for 4.5:1).
    """
    st.markdown("  \n".join(f":small[:gray[{line}]]" for line in text.split("  \n")))


def local_time(moment: datetime, *, seconds: bool = False) -> str:
    """A moment on the clock of whoever looks: "21 Nov 2026, 14:03"; with the zone where that is not known."""
    name = st.context.timezone
    try:
        zone = ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        zone = None
    told = moment.astimezone(zone or UTC).strftime("%d %b %Y, %H:%M" + (":%S" if seconds else ""))
    return told if zone is not None else f"{told} UTC"


def cut_code(
    key: str, text: str, language: str | None, *, last: bool = False, most: int = _SHOWN_LINES
) -> None:
    """Code or output, cut to about `most` lines with a button for the rest. `last` keeps the end."""
    # Streamlit's colours for Python cannot be set, and on light ground none of them reaches 4.5:1.
    wrap = language is None
    language = language if st.context.theme.type == "dark" else None
    lines = text.rstrip("\n").splitlines()
    long = len(lines) > most + 5 or len(text) > _SHOWN_CHARACTERS
    if not long or wants_all(key):
        st.code(text.rstrip("\n"), language=language, wrap_lines=wrap)
        return
    kept = "\n".join(lines[-most:] if last else lines[:most])
    kept = kept[-_SHOWN_CHARACTERS:] if last else kept[:_SHOWN_CHARACTERS]
    st.code(f"…\n{kept}" if last else f"{kept}\n…", language=language, wrap_lines=wrap)
    offer_all(key, f"Show all {counted(len(lines), 'line')}")


def said_with_details(text: str) -> tuple[str, str]:
    """The first line of a text, and what comes after it."""
    first, _, rest = text.strip().partition("\n")
    return first.strip(), rest.strip("\n")


def wants_all(key: str) -> bool:
    """Whether the person asked to see all of it."""
    return bool(st.session_state.get(f"all-{key}"))


def offer_all(key: str, label: str) -> None:
    """A button that shows all of it from the next redraw on."""

    def want() -> None:
        st.session_state[f"all-{key}"] = True

    st.button(label, key=f"show-all-{key}", type="tertiary", icon=":material/unfold_more:", on_click=want)
