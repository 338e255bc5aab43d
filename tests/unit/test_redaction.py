"""Values are found in every spelling that programs give them, and nothing else is touched."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythonic_assistant.domain.redaction import Redactor

SECRET = 'gh/p+"täglich"=7&x'


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps({"a": SECRET}),
        SECRET.encode().hex(),
        *(base64.b64encode(("u" * n + SECRET + "tail").encode()).decode() for n in range(6)),
        *(base64.urlsafe_b64encode(("u" * n + SECRET).encode()).decode() for n in range(6)),
    ],
)
def test_a_value_is_cut_out_of_every_spelling(shown: str) -> None:
    redacted = Redactor({SECRET: "[TOKEN]"}).text(f"before {shown} after")
    assert "[TOKEN]" in redacted
    assert redacted.startswith("before ") and redacted.endswith(" after")
    assert shown not in redacted


@given(st.text(min_size=6, max_size=40), st.binary(max_size=20), st.binary(max_size=20))
def test_base64_of_a_longer_text_never_keeps_the_value(value: str, before: bytes, after: bytes) -> None:
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        return
    text = base64.b64encode(before + raw + after).decode()
    assert Redactor({value: "-"}).found_in(text.encode())


def test_short_values_and_other_texts_are_left_alone() -> None:
    redactor = Redactor({"abc": "[X]"})
    assert not redactor
    assert redactor.text("abcdef") == "abcdef"
    assert redactor.value({"abc": ["abc", 1, None]}) == {"abc": ["abc", 1, None]}


def test_json_values_are_walked_through() -> None:
    redactor = Redactor({"sekret99": "[S]"})
    assert redactor.value({"sekret99": ["x sekret99", {"b": 2}]}) == {"[S]": ["x [S]", {"b": 2}]}
    assert redactor.data(b"\xff sekret99 \x00") == b"\xff [S] \x00"


@pytest.mark.parametrize(
    "spelt",
    [
        r"wJal\/rX&tn<\"\u00e9",
        "wJal/rX&amp;tn&lt;&quot;é",
        'wJal/rX&amp;tn&lt;"é',
        "wJal%2frX%26tn%3c%22%c3%a9",
        "774A616C2F72582674 6E3C22C3A9".replace(" ", ""),
    ],
    ids=["slash in JSON", "HTML attribute", "HTML text", "small percent codes", "capital hex"],
)
def test_spellings_of_other_languages_are_known(spelt: str) -> None:
    redactor = Redactor({'wJal/rX&tn<"é': "[KEY]"})
    assert redactor.text(f"a {spelt} b") == "a [KEY] b"
    assert redactor.data(f"a {spelt} b".encode()) == b"a [KEY] b"
