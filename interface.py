"""The page's entry script: sign-in first, then the sidebar and the page that was asked for.

Streamlit runs this file anew for every visit and every action that concerns the whole page. Start it with
`python -m live`.
"""

from __future__ import annotations

import streamlit as st

from live.runtime import ROOT
from pages import (
    banner,
    budget,
    chat,
    health,
    rules,
    schedules,
    secrets,
    sidebar,
    sign_in,
    visit,
    waiting,
)

# A picture of our own: Streamlit would load an icon by name from another host.
st.set_page_config(
    page_title="Pythonic Assistant", page_icon=str(ROOT / "live" / "icon.svg"), initial_sidebar_state="auto"
)


def show() -> None:
    """Draw what the visitor may see."""
    st.html(ROOT / "live" / "page.css")
    if visit.session() is None:
        sign_in.show()
        return
    with visit.calmly():
        for dialog in (secrets, schedules, rules, budget, health):  # one at most is open
            dialog.keep_open(visit.person())
        feed = visit.person().feed
        seen = feed.latest()  # before anything is read: the banner would miss a worker that comes meanwhile
        banner.show(feed)
        sidebar.show()
        if waiting.wanted():
            waiting.show(seen)
        else:
            chat.show(seen)


st.navigation([st.Page(show, title="Pythonic Assistant", default=True)], position="hidden").run()
