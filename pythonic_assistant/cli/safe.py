"""Text from models, code and files on its way to a terminal: control sequences are made visible."""

from __future__ import annotations

import re

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""C0 but tab and newline, DEL and C1 (ECMA-48), and what turns the direction of writing (UAX #9). A terminal
would obey some of them: set its title, write to the clipboard, hide what stands there."""


def safe(text: str) -> str:
    """Replace what a terminal would obey instead of showing."""
    return _CONTROLS.sub("\ufffd", text)
