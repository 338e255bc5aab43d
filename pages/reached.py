"""What code of a task did beyond its sandbox: requests to sites, calls of tools, variables it kept."""

from __future__ import annotations

import streamlit as st

from live.outside import Kept, Outside, Request, ToolUse, alike
from live.wording import counted, duration, literal, plain, short, size
from pages.text import cut_code, offer_all, wants_all

_FIRST_LINES = 8  # what is refused comes first, so it is among them
_SHORT_ARGUMENTS = 100  # characters that stand in the line itself
_REASON = 300  # characters
_HTTP_ERRORS = 400  # RFC 9110, section 15.5


def show(key: str, outside: Outside) -> None:
    """Draw each of the three, if there is any of it."""
    if outside.requests:
        _requests(key, outside)
    if outside.tools:
        _tools(key, outside.tools)
    if outside.kept:
        _kept(key, tuple(outside.kept.values()))


def _requests(key: str, outside: Outside) -> None:
    refused, failed = outside.count("refused"), outside.count("failed")
    told = [one for one in outside.requests if not one.summary]
    cut = len(told) < len(outside.requests)
    label = f"Internet: {'more than ' if cut else ''}{counted(len(told), 'request')}"
    if outside.hosts:
        label += f" to {counted(len(outside.hosts), 'site')}"
    if refused:
        label += f" · :red[{'at least ' if cut else ''}{refused:,} refused]"
    if failed:
        label += f" · :orange[{failed:,} failed]"
    icon = ":material/gpp_maybe:" if refused else ":material/public:"
    with (
        st.expander(label, expanded=refused > 0, key=f"internet-{key}-{refused > 0}", icon=icon, type="step"),
        st.container(gap="xsmall", key=f"reached-internet-{key}"),
    ):
        folded = alike(outside.requests)
        shown = folded if wants_all(f"internet-{key}") else folded[:_FIRST_LINES]
        for request in shown:
            st.markdown(_request(request))
        if len(shown) < len(folded):
            offer_all(f"internet-{key}", f"Show {len(folded) - len(shown):,} more")


def _request(request: Request) -> str:
    """One line, or two with the reason: word and icon tell the verdict, not colour alone."""
    if request.summary:
        return f":material/more_horiz: {plain(request.reason)}"
    port = "" if request.port in (0, 80, 443) else f":{request.port}"
    line = f"{_verdict(request)} {plain(request.method)} **{plain(request.host + port)}**"
    about = [f"{request.times:,} times"] if request.times > 1 else []
    if request.allowed:
        about.append(f"sent {size(request.sent_bytes)}, received {size(request.received_bytes)}")
    if request.secrets:
        about.append(f"with {', '.join(plain(name) for name in request.secrets)}")
    line += "".join(f" :small[:gray[· {part}]]" for part in about)
    return line + (f"  \n{plain(short(request.reason, _REASON))}" if request.reason else "")


def _verdict(request: Request) -> str:
    if request.outcome == "refused":
        return ":red[:material/block: refused]"
    if not request.allowed:
        return ":orange[:material/error: failed]"
    if request.status >= _HTTP_ERRORS:
        return f":orange[:material/error: {request.status}]"
    return f":green[:material/check: {request.status or 'sent'}]"


def _tools(key: str, tools: list[ToolUse]) -> None:
    wrong = sum(one.outcome != "ok" for one in tools)
    label = f"Tools: {counted(len(tools), 'call')}" + (f" · :red[{wrong:,} failed]" if wrong else "")
    with (
        st.expander(label, key=f"tools-{key}", icon=":material/build:", type="step"),
        st.container(gap="xsmall"),
    ):
        shown = tools if wants_all(f"tools-{key}") else tools[:_FIRST_LINES]
        for number, one in enumerate(shown):
            _tool(f"tool-{key}-{number}", one)
        if len(shown) < len(tools):
            offer_all(f"tools-{key}", f"Show {len(tools) - len(shown):,} more")


def _tool(key: str, use: ToolUse) -> None:
    mark = {
        "ok": ":green[:material/check: done]",
        "refused": ":red[:material/block: refused]",
    }.get(use.outcome, ":red[:material/close: failed]")
    brief = len(use.arguments) <= _SHORT_ARGUMENTS
    arguments = f" {literal(use.arguments)}" if brief else ""
    took = f" :small[:gray[· {duration(use.seconds)}]]" if use.outcome != "refused" else ""
    st.markdown(
        f"{mark} **{plain(use.tool)}**{arguments}{took}"
        + (f"  \n{plain(short(use.detail, _REASON))}" if use.detail else "")
    )
    if not brief:
        cut_code(key, use.arguments, None)


def _kept(key: str, kept: tuple[Kept, ...]) -> None:
    label = f"Kept for later tasks of this thread: {counted(len(kept), 'variable')}"
    with (
        st.expander(label, key=f"kept-{key}", icon=":material/inventory_2:", type="step"),
        st.container(gap="xsmall"),
    ):
        shown = kept if wants_all(f"kept-{key}") else kept[:_FIRST_LINES]
        for variable in shown:
            about = " ".join(part for part in (variable.type, variable.shape) if part)
            st.markdown(f"**{plain(variable.name)}** :small[:gray[{plain(about)} · {size(variable.bytes)}]]")
            if variable.load:
                st.code(variable.load, language=None, wrap_lines=True)
        if len(shown) < len(kept):
            offer_all(f"kept-{key}", f"Show {len(kept) - len(shown):,} more")
