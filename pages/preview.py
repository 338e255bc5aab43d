"""What would be done, or was, whole: plain text in boxes that scroll, never Markdown or HTML of a model."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from live.wording import plain
from pages.text import small
from pythonic_assistant.domain.preview import Section

_BOX_LINES, _BOX_PIXELS = 16, 340
_LINE_CHARACTERS = 90  # about what fits, before it is wrapped
_LABEL_PIXELS = 110


def show(parts: Sequence[Section]) -> None:
    """Draw the sections of a preview."""
    for part in parts:
        with st.container(gap="xxsmall"):
            if part.kind == "line":
                _line(part)
            else:
                _box(part)
            if part.warning:
                st.warning(plain(part.warning), icon=":material/visibility:")


def _line(part: Section) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="top", key=None):
        st.markdown(f":gray[{plain(part.label)}]", width=_LABEL_PIXELS)
        st.text(part.text, width="stretch")


def _box(part: Section) -> None:
    long = sum(1 + len(line) // _LINE_CHARACTERS for line in part.text.splitlines()) > _BOX_LINES
    told = [part.note] if part.note else []
    if long:
        told.append("scroll to read all")
    if part.label or told:
        st.markdown(f":gray[{plain(part.label)}] :small[:gray[{plain(', '.join(told))}]]")
    st.code(
        part.text,
        language="diff" if part.kind == "diff" else None,  # its colours: live/page.css
        wrap_lines=True,
        height=_BOX_PIXELS if long else "content",
    )


def show_value(label: str, text: str) -> None:
    """Draw one text that is shown as it is, such as a result."""
    if not text.strip():
        small(f"{plain(label)}: nothing")
        return
    show((Section(label=label, text=text),))
