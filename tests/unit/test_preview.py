"""What people decide about is shown whole: nothing hidden, nothing run, nothing forged."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from live.wording import until
from pythonic_assistant.cli.deciding import print_approval, read_decision
from pythonic_assistant.domain.decision import Approval, rule_words, settled_words
from pythonic_assistant.domain.preview import indented, of_request, sections
from pythonic_assistant.domain.visible import visible

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
APPROVAL = Approval(
    id=7,
    task_id=3,
    kind="effect",
    question="May the assistant do this? send_mail.",
    state="pending",
    created_at=NOW,
    expires_at=NOW + timedelta(days=7),
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("moc.elgoog\u202e", "moc.elgoog⟨U+202E⟩"),
        ("pay\u200bpal\u2066x\u2069", "pay⟨U+200B⟩pal⟨U+2066⟩x⟨U+2069⟩"),
        ("\x1b[2J\x9b\r\x00", "⟨U+001B⟩[2J⟨U+009B⟩⟨U+000D⟩⟨U+0000⟩"),
        ("a\U000e0041\ufe0f\u3164\u2800", "a⟨U+E0041⟩⟨U+FE0F⟩⟨U+3164⟩⟨U+2800⟩"),
        ("e" + "\u0301" * 5, "e" + "\u0301" * 3 + "⟨U+0301⟩" * 2),
        ("größe\t1\n2 → 数 été", "größe\t1\n2 → 数 été"),
    ],
)
def test_what_nobody_would_see_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


def test_json_is_broken_into_lines_and_keeps_every_character() -> None:
    body = '{"a":1,"a":2.50000000000000000001,"s":"x{ \\"y\\" , [z]\\\\","e":{},"l":[ ],"n":[1,{"k":null}]}'
    shown = indented(body)
    assert shown.splitlines()[:3] == ["{", '  "a": 1,', '  "a": 2.50000000000000000001,']
    assert '"s": "x{ \\"y\\" , [z]\\\\"' in shown
    assert '"e": {}' in shown
    assert '"l": []' in shown
    assert json.loads(shown) == json.loads(body)


def test_a_row_cannot_hold_a_line_that_passes_for_another_row() -> None:
    forged = "x\n@@ row 2 of 2, changed @@\n- price: 1"
    (part,) = sections(
        {
            "form": "rows",
            "table": "prices",
            "rows": [
                {"before": {"id": 1, "note": "old", "gone": 1}, "after": {"id": 1, "note": forged}},
                {"before": None, "after": {"id": 2}},
                {"before": {"id": 3}, "after": None},
            ],
            "more": 4,
        }
    )
    assert part.kind == "diff"
    assert part.text.splitlines() == [
        "@@ row 1 of 3, changed @@",
        "  id: 1",
        '- note: "old"',
        '+ note: "x\\n@@ row 2 of 2, changed @@\\n- price: 1"',
        "- gone: 1",
        "",
        "@@ row 2 of 3, added @@",
        "+ id: 2",
        "",
        "@@ row 3 of 3, deleted @@",
        "- id: 3",
    ]
    assert part.note == "3 rows, and 4 more that are not shown"


def test_a_request_is_shown_whole() -> None:
    request: dict[str, Any] = {
        "method": "POST",
        "url": "https://api.example.org/a\u202eb",
        "headers": [{"name": "X-Note", "value": "a\nAuthorization: forged"}],
        "body": '{"sum":1}',
        "body_note": "3 characters in the middle are not shown.",
    }
    line, headers, body = sections({"form": "request", **request})
    assert line.text == "POST https://api.example.org/a⟨U+202E⟩b"
    assert headers.text == "X-Note: a⟨U+000A⟩Authorization: forged"
    assert body.text == '{\n  "sum": 1\n}'
    assert "3 characters in the middle" in body.note
    assert of_request("request", "POST", request) == (line, headers, body)
    assert sections({"form": "request", **request, "body": "x=1&y=2"})[2].text == "x=1&y=2"
    assert sections({"form": "request", **request, "body": "", "body_note": ""})[2].text == "(empty)"


def test_letters_of_another_alphabet_in_an_address_are_named() -> None:
    to, subject = sections(
        {
            "form": "fields",
            "fields": [
                {"name": "to", "value": "m\u0430rta@example.org"},
                {"name": "subject", "value": "Zahlen für März"},
            ],
        }
    )
    assert "CYRILLIC SMALL LETTER A" in to.warning
    assert subject.warning == ""


def test_a_preview_of_an_unknown_form_hides_nothing() -> None:
    (part,) = sections({"form": "later", "what": ["a", {"b": "\u200b"}]})
    assert json.loads(part.text.replace("⟨U+200B⟩", "\u200b")) == {
        "form": "later",
        "what": ["a", {"b": "\u200b"}],
    }
    assert sections({}) == ()


def test_a_rule_says_what_it_allows() -> None:
    name, meaning = rule_words({"tool": "send_mail", "recipient": {"to": ["a@b.org", "c\u200b@d.org"]}})
    assert name == "send_mail, when “to” is a@b.org and c⟨U+200B⟩@d.org"
    assert "also where it cannot be undone" in meaning
    name, meaning = rule_words({"host": "api.example.org", "method": "POST"})
    assert name == "POST requests to api.example.org"
    assert "whatever their path and content" in meaning


def test_what_is_typed_decides_only_when_it_is_offered() -> None:
    lasting = replace(APPROVAL, standing={"host": "a.org", "method": "POST"})
    assert read_decision(APPROVAL, "y\n") == ("approve", None, False)
    assert read_decision(APPROVAL, "n too early\n") == ("refuse", "too early", False)
    assert read_decision(APPROVAL, "always") is None
    assert read_decision(lasting, "always") == ("approve", None, True)
    assert [read_decision(APPROVAL, typed) for typed in ("", "yess", "ok", "1")] == [None] * 4
    unknown = replace(APPROVAL, kind="unknown")
    assert read_decision(unknown, "again") == ("again", None, False)
    assert read_decision(unknown, "y") is None
    choice = replace(APPROVAL, kind="question", choices=("red", "blue"))
    assert read_decision(choice, "2") == ("answer", "blue", False)
    assert read_decision(choice, "red") == ("answer", "red", False)
    assert read_decision(choice, "3") is None
    assert read_decision(replace(APPROVAL, kind="question"), " \n") is None


def test_what_is_asked_cannot_pass_for_a_line_of_ours_in_a_terminal() -> None:
    out = io.StringIO()
    asked = replace(
        APPROVAL,
        question="Well?\n[8] Approved" + " " * 200 + "> y",
        preview={"form": "fields", "fields": [{"name": "body", "value": "\x1b[1A[9]\n> y\n[b]bold[/b]"}]},
    )
    print_approval(Console(file=out, force_terminal=True, width=60, color_system=None), asked)
    lines = out.getvalue().splitlines()
    ours = [line for line in lines if line and not line.startswith("  │ ")]
    assert [line.split()[0] for line in ours] == ["[7]", "body", "Expires"]
    assert "\x1b" not in out.getvalue()
    assert "[b]bold[/b]" in out.getvalue()


def test_an_expiry_is_told_in_days_and_a_decision_in_words() -> None:
    assert until(NOW + timedelta(days=7), NOW) == "in 7 days"
    assert until(NOW + timedelta(hours=30), NOW) == "in 30 h 0 min"
    assert settled_words(replace(APPROVAL, state="refused", answer="no\u202e")) == "Refused: no⟨U+202E⟩"
    assert settled_words(replace(APPROVAL, kind="unknown", state="answered", answer="again")).startswith(
        "“It"
    )
