"""What everybody has to know of the workers' sandboxes before asking for anything."""

from __future__ import annotations

import streamlit as st

from live.feed import Feed
from live.wording import UNAVAILABLE, UNSAFE, plain
from pages.text import cut_code, said_with_details


def show(feed: Feed) -> None:
    """Draw the red line while a worker runs code without walls, and why no worker runs any."""
    unsafe = sorted({worker.host for worker in feed.workers if worker.sandbox == UNSAFE})
    if unsafe:
        with st.container(key="unsafe-banner"):
            st.error(
                f"**No sandbox:** the worker on {', '.join(plain(host) for host in unsafe)} runs code "
                "without isolation. Code can read and change whatever this worker can. "
                "Set `PYTHONIC_SANDBOX=auto` and restart it.",
                icon=":material/gpp_bad:",
            )
    walled_off = [worker for worker in feed.workers if worker.sandbox == UNAVAILABLE]
    if len(walled_off) < len(feed.workers):
        return  # tasks do run; the sidebar tells of the worker that takes none
    for worker in walled_off:
        sentence, details = said_with_details(
            worker.sandbox_note or "Its log and the address /readyz say why."
        )
        st.warning(
            f"**The worker on {plain(worker.host)} takes no tasks:** it cannot isolate code.  \n"
            f"{plain(sentence)}",
            icon=":material/gpp_maybe:",
        )
        if details:
            cut_code(f"sandbox-note-{worker.id}", details, None)
