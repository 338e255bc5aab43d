"""Words, numbers and untrusted text of the page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from live.rows import DEMO_ID, TaskRow
from live.wording import (
    announcement,
    counted,
    duration,
    elapsed,
    literal,
    plain,
    safe_markdown,
    short,
    size,
    status_words,
    until,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ROW = TaskRow(
    id=1, thread_id="t", kind="task", prompt="Add 1 and 2", state="running", attempt=1, created_at=NOW
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0.0 s"), (0.42, "0.4 s"), (12.4, "12 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "at once"), (0.2, "in 1 s"), (40, "in 40 s"), (185, "in 3 min 5 s"), (90_000, "in 25 h 0 min")],
)
def test_until(seconds: float, words: str) -> None:
    assert until(NOW + timedelta(seconds=seconds), NOW) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (3400, "3.4 KB"), (1_200_000, "1.2 MB"), (5 * 10**9, "5.0 GB")],
)
def test_size(count: int, words: str) -> None:
    assert size(count) == words


def test_counting_and_shortening() -> None:
    assert counted(1, "check") == "1 check"
    assert counted(1200, "row") == "1,200 rows"
    assert counted(2, "model reply", "model replies") == "2 model replies"
    assert short("a  b\nc", 10) == "a b c"
    assert short("x" * 20, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    "text",
    [
        "![plot](https://evil.example/x.png?leak=1)",
        "![plot](<https://evil.example/x.png> 'title')",
        "![plot][ref]\n\n[ref]: https://evil.example/x.png",
        "![plot]\n\n[plot]: https://evil.example/x.png",
        "![a\nb](https://evil.example/x.png)",
        "[![in a link](https://evil.example/x.png)](https://example.org)",
        "![](/pa/artifact/1)",
    ],
)
def test_no_picture_is_loaded_from_an_answer(text: str) -> None:
    safe = safe_markdown(text)
    assert "![" not in safe.replace("!\\[", "")


def test_an_answer_keeps_its_code_and_its_money() -> None:
    text = "It costs $5 or $6.\n\n```python\nprint('![no](x) $5')\n```\n\nInline `![x](y)` and $x^2$."
    safe = safe_markdown(text)
    assert "\\$5 or \\$6" in safe
    assert "print('![no](x) $5')" in safe
    assert "`![x](y)`" in safe
    assert "$x^2$" in safe
    assert "(picture: plot)" in safe_markdown("![plot](a.png)")


def test_plain_text_is_not_markdown() -> None:
    assert plain("**a** [b](c)\n# d") == "\\*\\*a\\*\\* \\[b\\]\\(c\\) \\# d"


def test_plain_text_makes_no_link_of_an_address() -> None:
    for address in ("https://x.example/a`b", "HTTP://x.example", "www.x.example", "ann@x.example"):
        assert plain(f"Look at {address} now.") == f"Look at {literal(address)} now\\."
    assert plain("(See https://x.example/a.)") == "\\(See ` https://x.example/a `\\.\\)"
    # Streamlit makes pictures and signs of these, escaped or not.
    assert plain("a :material/check: b") == "a \\:material\\/check\\: b"
    assert plain("rm -- a -> b") == "rm ` -- ` a ` -> ` b"
    assert plain("api.github.com") == "api\\.github\\.com"


def test_states_have_words() -> None:
    assert status_words(ROW) == "Running"
    assert status_words(replace(ROW, cancelling=True)) == "Cancelling…"
    assert status_words(replace(ROW, state="succeeded", verdict="proven")) == "Proven"
    assert status_words(replace(ROW, state="succeeded", verdict="unverified")) == "Unverified"
    assert status_words(replace(ROW, state="failed", verdict="refuted")) == "Refuted"
    assert status_words(replace(ROW, state="failed")) == "Failed"
    assert status_words(replace(ROW, state="scheduled")) == "Scheduled"
    assert status_words(replace(ROW, state="scheduled", failures=1)) == "Waits to be tried again"


def test_only_changes_of_state_are_announced() -> None:
    assert announcement(ROW, replace(ROW, attempt=2)) == ""
    done = replace(ROW, state="succeeded", verdict="proven")
    assert announcement(ROW, done) == "Task “Add 1 and 2”: Proven."


def test_elapsed_time_ends_with_the_task() -> None:
    assert elapsed(ROW, NOW) is None
    running = replace(ROW, started_at=NOW)
    assert elapsed(running, NOW + timedelta(seconds=4)) == 4
    ended = replace(running, finished_at=NOW + timedelta(seconds=2))
    assert elapsed(ended, NOW + timedelta(hours=1)) == 2


def test_the_demo_is_told_from_a_model() -> None:
    asked = replace(ROW, assistant_id=DEMO_ID)
    assert asked.scripted
    assert not replace(asked, model_used="gpt-6.1-sol").scripted
    assert replace(ROW, model_used="scripted-demo").scripted
    assert not ROW.scripted


def test_code_on_a_line_keeps_its_backticks_and_makes_no_link() -> None:
    assert literal("to='a@example.com'") == "` to='a@example.com' `"
    assert literal("a ``b`\n c") == "``` a ``b` c ```"
    assert literal(" \n") == ""
