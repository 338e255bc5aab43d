"""Cuts secret values out of whatever is shown, stored or sent, in the spellings that programs give them."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

_PERCENT = re.compile("%[0-9A-F]{2}")
SHORTEST = 6
"""Characters; a shorter value would be found everywhere by chance."""


class Redactor:
    """Replaces values by what stands for them.

    Args:
        shown: what to show by the value that it replaces. Values shorter than `SHORTEST` are left alone.
    """

    def __init__(self, shown: Mapping[str, str]) -> None:
        self._shown: dict[str, str] = {}
        for value, instead in shown.items():
            if len(value) >= SHORTEST:
                self._shown.update(dict.fromkeys(spellings(value), instead))
        # The longest first: a spelling may begin with another one.
        words = sorted(self._shown, key=len, reverse=True)
        self._words = re.compile("|".join(map(re.escape, words))) if words else None
        self._bytes = re.compile(b"|".join(re.escape(word.encode()) for word in words)) if words else None
        self._encoded = tuple(word.encode() for word in words)

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        return self._words is not None

    def text(self, text: str) -> str:
        """Return the text with what stands for each value."""
        if self._words is None:
            return text
        return self._words.sub(lambda found: self._shown[found.group()], text)

    def data(self, data: bytes) -> bytes:
        """As `text`, for bytes that hold UTF-8 or anything else."""
        if self._bytes is None:
            return data
        return self._bytes.sub(lambda found: self._shown[found.group().decode()].encode(), data)

    def whole(self, data: bytes, cut: int) -> int:
        """Return where bytes may be cut in two, at this place or before it, and no value with them."""
        if self._bytes is not None:
            for found in self._bytes.finditer(data):
                if found.start() < cut < found.end():
                    return found.start()
        return cut

    def found_in(self, data: bytes) -> bool:
        """Whether a value is in there."""
        # One search for each word is several times quicker than the expression: files may be large.
        return any(word in data for word in self._encoded)

    def value(self, value: Any) -> Any:
        """As `text`, for every text in a JSON value, keys included."""
        if self._words is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return value

    @property
    def longest(self) -> int:
        """Bytes of the longest spelling: what a stream has to hold back."""
        return max((len(word.encode()) for word in self._shown), default=0)

    def settled(self, text: str) -> int:
        """Characters at the beginning that no text after this one can make part of a value.

        For text that comes in pieces: what is behind them has to wait for the next piece.
        """
        if self._words is None:
            return len(text)
        end = len(text)
        for word in self._shown:
            start = text.find(word[0], max(0, len(text) - len(word) + 1))
            while 0 <= start < end:
                if word.startswith(text[start:]):
                    end = start
                start = text.find(word[0], start + 1)
        # The end of a whole value may look like the beginning of the next one.
        for found in self._words.finditer(text):
            if found.start() < end < found.end():
                return found.start()
        return end


def spellings(value: str) -> frozenset[str]:
    """Return the value as it is, percent-encoded, escaped for JSON and HTML, in base64 by itself and in hex.

    Base64 of a longer text that holds the value is found by its core: the characters that depend on the
    value alone, for each of the three places at which it may begin.
    """
    raw = value.encode()
    percent = {quote(value, safe=""), quote(value), quote_plus(value)}
    escaped = json.dumps(value)[1:-1]
    found = {
        value,
        *percent,
        # RFC 3986, 2.1: both cases of the digits are the same
        *(_PERCENT.sub(lambda code: code.group().lower(), text) for text in percent),
        escaped,
        json.dumps(value, ensure_ascii=False)[1:-1],
        escaped.replace("/", "\\/"),  # as PHP does, and others that put JSON into HTML
        html.escape(value),
        html.escape(value, quote=False),
        raw.hex(),
        raw.hex().upper(),
    }
    for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            core = alphabet(b"\0" * shift + raw).decode().rstrip("=")
            begin = (shift * 8 + 5) // 6
            end = (shift + len(raw)) * 8 // 6
            found.add(core[begin:end])
    return frozenset(word for word in found if len(word) >= SHORTEST)
