"""What everybody has to know of the workers' sandboxes before asking for anything."""

from __future__ import annotations

import streamlit as st

from live.feed import Feed
from live.wording import UNSAFE, plain
from pages.text import cut_code, said_with_details


def show(feed: Feed) -> None:
    """Draw the red line while a worker runs code without walls, and why there is no worker that runs any."""
    unsafe = sorted({worker.host for worker in feed.workers if worker.sandbox == UNSAFE})
    if unsafe:
        # At the bottom, above the input, where it stays in sight however long the thread is.
        hosts = ", ".join(plain(host) for host in unsafe)
        with st.bottom:
            st.error(
                f"**No sandbox** on {hosts}: code runs without isolation. "
                "It can read and change whatever that worker can, and reaches every site. "
                "Set `PYTHONIC_SANDBOX=auto` to end this.",
                icon=":material/gpp_bad:",
            )
    if feed.workers and not feed.can_run():
        for worker in feed.workers:
            sentence, details = said_with_details(
                worker.sandbox_note or "Its log and the address /readyz say why."
            )
            st.warning(
                f"**The worker on {plain(worker.host)} takes no tasks.**  \n{plain(sentence)}",
                icon=":material/gpp_maybe:",
            )
            if details:
                cut_code(f"sandbox-note-{worker.id}", details, None)
