"""The steps of a task: plan, code, output, error, fix, checks."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from live.story import Check, Note, Story, Told, ToldStep
from live.wording import counted, duration, plain, short
from pages import reached
from pages.text import cut_code, said_with_details, small

# While it runs, the output below the code matters more than the whole of the code.
_LIVE_CODE_LINES, _CODE_LINES = 8, 30
_ONE_LINE = 300  # characters that are read at ease without line breaks
_ICONS = {
    "pending": ":material/radio_button_unchecked:",
    "running": "spinner",
    "succeeded": ":material/check_circle:",
    "failed": ":material/error:",
}


def show(task_id: int, story: Story, *, running: bool) -> None:
    """Draw the steps. Open are the step that works and, afterwards, those with something to learn from."""
    _notes(story.notes)
    for place, step in enumerate(story.steps, start=1):
        active = running and step.state == "running"
        with (
            st.expander(
                _label(place, step),
                expanded=active or (not running and (step.state == "failed" or step.fixes > 0)),
                key=f"step-{task_id}-{place}-{'active' if active else step.state}-{running}",
                icon="spinner" if active else _ICONS[step.state if step.state != "running" else "pending"],
                type="step",
            ),
            st.container(gap="xsmall"),
        ):
            _step(task_id, step, active=active)
    reached.show(str(task_id), story.outside)
    if story.checks or story.verifying:
        show_checks(f"checks-{task_id}", story.checks, running=running and story.verifying)
    if not story.steps and not story.checks and not story.outside.requests:
        small("Nothing has been run yet." if running else "No step was run.")


def _label(place: int, step: ToldStep) -> str:
    label = f"{place}. {plain(step.title)}"
    if step.fixes:
        label += f" :gray[· {counted(step.fixes, 'fix', 'fixes')}]"
    if step.restored:
        label += " :gray[· restored]"
    return label


def _notes(notes: Sequence[Note]) -> None:
    for note in notes:
        if note.level == "warning":
            st.warning(plain(note.text), icon=":material/warning:")
        else:
            small(f":material/info: {plain(note.text)}")


def _step(task_id: int, step: ToldStep, *, active: bool) -> None:
    about = plain(step.goal) + (f"  \nProof: {plain(step.proof)}" if step.proof else "")
    if about:
        small(about)
    for told in step.executions:
        if active and told is not step.executions[-1]:
            _superseded(told)
        else:
            _execution(f"{task_id}-{step.id}-{told.number}", told, active=active)
    if not step.executions and step.code:
        cut_code(f"{task_id}-{step.id}-code", step.code, "python")
    if step.error and not (step.executions and step.executions[-1].error == step.error):
        show_error(f"{task_id}-{step.id}-step-error", step.error)


def _superseded(told: Told) -> None:
    """One line for an earlier execution while a later one runs, so that what is new stays in sight."""
    last_line = told.error.strip().splitlines()[-1:] or [""]
    st.markdown(
        f"**{_name(told)}** {_result_words(told)}  \n:small[:gray[{plain(short(last_line[0], 200))}]]"
    )


def _name(told: Told) -> str:
    return "Code" if told.number <= 1 else f"Fix {told.number - 1}"


def _execution(key: str, told: Told, *, active: bool) -> None:
    thought = f"  \n:small[:gray[{plain(told.thought)}]]" if told.thought else ""
    st.markdown(f"**{_name(told)}** {_result_words(told)}{thought}")
    if told.code:
        cut_code(f"{key}-code", told.code, "python", most=_LIVE_CODE_LINES if active else _CODE_LINES)
    output = told.output if told.outcome is not None else told.live_output
    if output.strip():
        small("Output")
        cut_code(f"{key}-output", output, None, last=told.outcome is None and active)
    if told.error.strip():
        st.markdown(":small[:red[Error]]")
        cut_code(f"{key}-error", told.error, None, last=True)


def _result_words(told: Told) -> str:
    undone = " :gray[:material/undo: undone: variables were put back]" if told.undone else ""
    seconds = f" after {duration(told.seconds)}" if told.seconds is not None else ""
    words = {
        None: ":gray[running…]",
        "ok": f":green[:material/check: ran{seconds}]",
        "error": f":red[:material/close: failed{seconds}]",
        "timeout": f":red[:material/timer_off: stopped at its time limit{seconds}]",
        "died": f":red[:material/close: its process ended{seconds}]",
    }.get(told.outcome, plain(told.outcome or ""))
    return words + undone


def show_checks(key: str, checks: Sequence[Check], *, running: bool) -> None:
    """Draw the checks of the last round."""
    newest = max((check.round for check in checks), default=0)
    last = [check for check in checks if check.round == newest]
    failed = sum(check.outcome != "passed" for check in last)
    label = f"Checks: {len(last) - failed} of {len(last)} passed" if last else "Checks"
    if newest > 1:
        label += f" :gray[· round {newest}]"
    icon = "spinner" if running else ":material/error:" if failed else ":material/check_circle:"
    with st.expander(
        label, expanded=running, key=f"{key}-{'live' if running else 'done'}", icon=icon, type="step"
    ):
        if not last:
            small("No check has been executed yet.")
        for number, check in enumerate(last):
            show_check(f"{key}-{newest}-{number}", check.outcome, check.check, check.detail)


def show_check(key: str, outcome: str, check: str, detail: str) -> None:
    """Draw a check: word and icon tell the outcome, not colour alone; what it wrote keeps its lines."""
    mark = ":green[:material/check: passed]" if outcome == "passed" else ":red[:material/close: failed]"
    lines = detail.strip("\n").splitlines()
    if len(lines) > 1 or len(detail) > _ONE_LINE:
        st.markdown(f"{mark} {plain(check)}")
        cut_code(f"{key}-detail", detail.strip("\n"), None, last=outcome != "passed")
    else:
        st.markdown(f"{mark} {plain(check)}" + (f"  \n:gray[{plain(detail)}]" if lines else ""))


def show_error(key: str, error: str, *, before: str = "", icon: str = ":material/error:") -> None:
    """Draw why something failed: the sentence in red, and below it what follows, such as a traceback."""
    sentence, details = said_with_details(error)
    st.error(f"{before}{plain(sentence)}", icon=icon)
    if details:
        cut_code(key, details, None, last=True)
