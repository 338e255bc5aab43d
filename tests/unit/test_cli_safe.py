"""What reaches a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pythonic_assistant.cli.progress import Progress
from pythonic_assistant.cli.safe import safe


@pytest.mark.parametrize(
    "text", ["\x1b]52;c;T1dORUQ=\x07", "\x1b[2J", "\x9b2J", "a\rb", "\u202egnp.exe", "\x00"]
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str) -> None:
    cleaned = safe(text)
    assert "\ufffd" in cleaned
    assert not any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in cleaned)


def test_ordinary_text_stays() -> None:
    assert safe("größe\t1\n2 → ✓ 数") == "größe\t1\n2 → ✓ 数"


def test_an_error_of_generated_code_cannot_reach_the_terminal() -> None:
    out = io.StringIO()
    error = "Traceback\nValueError: \x1b]0;OWNED\x07"
    Progress(Console(file=out, force_terminal=True), quiet=False).event(
        {"kind": "code_executed", "attempt": 1, "data": {"outcome": "error", "error": error, "seconds": 0.1}}
    )
    assert "OWNED" in out.getvalue()
    assert "\x1b]" not in out.getvalue()
