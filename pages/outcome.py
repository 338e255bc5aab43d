"""The answer, how sure it is, and the files that came with it."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from live.feed import TaskView
from live.person import Person
from live.routes import SHOWN_AS_PICTURE
from live.rows import ArtifactRow, Json, TaskRow
from live.story import tell
from live.tables import TABLE_BYTES, table_of
from live.wording import counted, plain, safe_markdown, short, size
from pages import timeline, visit
from pages.text import cut_code, offer_all, small, wants_all
from pythonic_assistant.domain.errors import AssistantError

_SHOWN_ANSWER = 12_000
_SHOWN_ARTIFACTS = 12
_SHOWN_REFUSALS = 3
_SHOWN_HOSTS = 5  # for one reason
_TABLE_TYPES = frozenset({"text/csv", "text/tab-separated-values"})
_TABLE_ENDINGS = (".csv", ".tsv")


def show(person: Person, view: TaskView) -> None:
    """Draw what came of a task; nothing before it has ended, except files that are there already."""
    row = view.row
    if row.state == "succeeded":
        _answer(row)
        _artifacts(person, view.artifacts)
        _verdict(row)
    else:
        if row.state == "failed":
            _failure(person, row)
        elif row.state == "cancelled":
            small("Cancelled before it was done. What was finished is kept for a retry.")
        _artifacts(person, view.artifacts)


def _answer(row: TaskRow) -> None:
    _words(f"answer-{row.id}-{row.attempt}", row.answer or "")
    if row.scripted:
        small(":material/theater_comedy: scripted demo, no AI: the text is fixed, the code really ran.")


def _words(key: str, text: str) -> None:
    if len(text) > _SHOWN_ANSWER and not wants_all(key):
        st.markdown(safe_markdown(text[:_SHOWN_ANSWER] + "…"), anchors=False)
        offer_all(key, f"Show all {len(text):,} characters")
    else:
        st.markdown(safe_markdown(text), anchors=False)


def _verdict(row: TaskRow) -> None:
    if row.verdict == "proven":
        passed = sum(item.get("outcome") == "passed" for item in row.evidence)
        _evidence(row, f":green[:material/verified: Proven by {counted(passed, 'executed check')}]")
        return
    small(
        ":material/help: Unverified: no executed check confirms what this answer claims. Read it with care."
    )
    if row.evidence:
        _evidence(row, f"What was checked: {counted(len(row.evidence), 'check')}")


def _failure(person: Person, row: TaskRow) -> None:
    refuted = row.verdict == "refuted"
    timeline.show_error(
        f"error-{row.id}-{row.attempt}",
        row.error or ("" if refuted else "It failed without saying why."),
        before="**Refuted: a check contradicts the answer, so it is not given.**  \n" if refuted else "",
        icon=":material/cancel:" if refuted else ":material/error:",
    )
    _refusals(person, row)
    if row.evidence:
        failed = sum(item.get("outcome") != "passed" for item in row.evidence)
        _evidence(row, f"{counted(failed, 'check')} failed of {len(row.evidence)}", expanded=True)
    if refuted:
        _refuted_answer(person, row)


def _refusals(person: Person, row: TaskRow) -> None:
    """Name the sites that code asked for in vain: often that is why the task failed."""
    if row.started_at is None:
        return
    visit.wait_for(person.tell(row.id))
    view = person.feed.task(row.id)
    requests = tell(view.events).outside.requests if view is not None else []
    hosts: dict[str, list[str]] = {}  # by the reason, which many may share
    for one in requests:
        if one.outcome == "refused" and not one.summary and one.host not in hosts.setdefault(one.reason, []):
            hosts[one.reason].append(one.host)
    if not hosts:
        return
    lines = [
        f"{_first_names(names)} {plain(short(why, 300))}"
        for why, names in list(hosts.items())[:_SHOWN_REFUSALS]
    ]
    if len(hosts) > _SHOWN_REFUSALS:
        lines.append(f"and {sum(map(len, list(hosts.values())[_SHOWN_REFUSALS:])):,} more")
    st.warning(
        "Code asked for sites that were refused:  \n" + "  \n".join(lines), icon=":material/gpp_maybe:"
    )


def _first_names(hosts: Sequence[str]) -> str:
    names = ", ".join(f"**{plain(host)}**" for host in hosts[:_SHOWN_HOSTS])
    more = len(hosts) - _SHOWN_HOSTS
    return names + (f" and {more:,} more" if more > 0 else "") + ":"


def _refuted_answer(person: Person, row: TaskRow) -> None:
    """The answer that the checks contradict: closed, and read only when somebody opens it."""
    box = st.expander(
        "The answer that was refuted",
        icon=":material/visibility:",
        key=f"refuted-{row.id}-{row.attempt}",
        on_change="rerun",
    )
    if not box.open:
        return
    with box:
        visit.wait_for(person.tell(row.id))
        view = person.feed.task(row.id)
        text = tell(view.events).refuted_answer if view is not None else ""
        if not text:
            small("It was not kept.")
            return
        small("A check contradicts this: do not rely on it.")
        _words(f"refuted-answer-{row.id}-{row.attempt}", text)


def _evidence(row: TaskRow, label: str, *, expanded: bool = False) -> None:
    with st.expander(label, expanded=expanded, key=f"evidence-{row.id}-{row.attempt}"):
        for number, item in enumerate(row.evidence):
            _check(f"{row.id}-{row.attempt}-{number}", item)


def _check(key: str, item: Json) -> None:
    timeline.show_check(
        key, str(item.get("outcome") or ""), str(item.get("check") or ""), str(item.get("detail") or "")
    )
    code = str(item.get("code") or "")
    if code.strip() and st.toggle("Code of this check", key=f"check-code-{key}"):
        cut_code(f"check-{key}", code, "python")


def _artifacts(person: Person, artifacts: Sequence[ArtifactRow]) -> None:
    shown = artifacts
    if artifacts and len(artifacts) > _SHOWN_ARTIFACTS:
        key = f"artifacts-{artifacts[0].task_id}"
        if not wants_all(key):
            shown = artifacts[:_SHOWN_ARTIFACTS]
            offer_all(key, f"Show all {len(artifacts)} files")
    for artifact in shown:
        if artifact.media_type in SHOWN_AS_PICTURE:
            _picture(artifact)
        elif _is_table(artifact):
            _table(person, artifact)
    if shown:
        with st.container(horizontal=True, gap="small"):
            for artifact in shown:
                st.link_button(
                    f"{plain(artifact.name)} · {size(artifact.bytes)}",
                    address(artifact),
                    icon=":material/download:",
                    help="Download",
                )


def address(artifact: ArtifactRow) -> str:
    """Where the browser gets the file, with the session's cookie."""
    return f"/pa/artifact/{artifact.id}?v={artifact.sha256[:12]}"


def _picture(artifact: ArtifactRow) -> None:
    alt = html.escape(f"Picture {artifact.name}, made by this task", quote=True)
    st.html(
        f'<img src="{html.escape(address(artifact))}" alt="{alt}" style="max-width:100%;border-radius:6px">'
    )


def _is_table(artifact: ArtifactRow) -> bool:
    return artifact.media_type in _TABLE_TYPES or artifact.name.lower().endswith(_TABLE_ENDINGS)


def _table(person: Person, artifact: ArtifactRow) -> None:
    if artifact.bytes > TABLE_BYTES:
        small(f"{plain(artifact.name)} is too large to be shown here: download it.")
        return
    try:
        table = table_of(artifact, lambda: visit.wait_for(person.desk.download(artifact.storage_path)))
    except AssistantError as error:
        small(f"{plain(artifact.name)} cannot be shown: {plain(str(error))}")
        return
    st.dataframe(  # pyright: ignore[reportUnknownMemberType]  its types name pandas, which has no stubs here
        table.rows,
        hide_index=True,
        height=min(38 + 35 * max(len(table.rows), 1), 320),
        key=f"table-{artifact.id}-{artifact.sha256[:12]}",
        alt=f"Table {artifact.name}",
    )
    if table.cut:
        small(f"The first {len(table.rows):,} rows of {plain(artifact.name)}.")
