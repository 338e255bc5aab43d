"""Text that people decide about, without anything in it that they would not see."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Unicode's Default_Ignorable_Code_Point, Bidi_Control, controls and separators of lines, and letters that are
# blank: U+115F, U+1160, U+3164, U+FFA0 and the empty Braille pattern U+2800. Tab and newline stay.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_MOST_MARKS: Final = 3
"""Marks on one letter: no language needs more, and a pile of them covers the lines above and below."""


def visible(text: str, *, line: bool = False) -> str:
    """Write what nobody would see as its code point, such as ⟨U+202E⟩.

    Args:
        line: of one line; then a tab and a newline are written so, too.
    """
    text = _UNSEEN.sub(lambda found: _code_point(found.group()), text)
    if line:
        text = re.sub("[\t\n]", lambda found: _code_point(found.group()), text)
    return text if text.isascii() else _without_piles(text)


def strange_letters(text: str) -> tuple[str, ...]:
    """The letters beyond ASCII, each once with its name: another alphabet's look like those of an address."""
    letters = dict.fromkeys(one for one in text if not one.isascii() and one.isprintable())
    return tuple(f"{one} ({_code_point(one)[1:-1]}, {unicodedata.name(one, 'no name')})" for one in letters)


def _code_point(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"


def _without_piles(text: str) -> str:
    shown: list[str] = []
    marks = 0
    for one in text:
        marks = marks + 1 if unicodedata.category(one) in ("Mn", "Me") else 0
        shown.append(one if marks <= _MOST_MARKS else _code_point(one))
    return "".join(shown)
