"""Puts the values of secrets where code has written their placeholders, encoded as the place wants it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote, quote_plus

from pythonic_assistant.adapters.egress.refusal import RefusedError
from pythonic_assistant.domain.secret import BoundSecret

Headers = list[tuple[bytes, bytes]]
_BASIC: Final = re.compile(rb"(basic +)([A-Za-z0-9+/=_-]+)", re.IGNORECASE)
_BREAKS: Final = re.compile(r"[\r\n\0]")


class Swapper:
    """Replaces the placeholders of one host's secrets.

    Attributes:
        used: names of the secrets that were put in so far.
    """

    def __init__(self, secrets: Sequence[BoundSecret]) -> None:
        self._by_placeholder = {secret.placeholder.encode(): secret for secret in secrets}
        self._wanted = (
            re.compile(b"|".join(map(re.escape, self._by_placeholder))) if self._by_placeholder else None
        )
        self.used: set[str] = set()

    def target(self, target: bytes) -> bytes:
        """Path and query, percent-encoded.

        Raises:
            RefusedError: a value cannot stand there.
        """
        return self._swapped(target, lambda value: quote(value, safe=""), in_head=True)

    def headers(self, headers: Headers) -> Headers:
        """Values of headers, and what is inside of Basic authorization (RFC 7617).

        Raises:
            RefusedError: a value cannot stand there.
        """
        return [(name, self._header(name, value)) for name, value in headers]

    def body(self, body: bytes, content_type: str) -> bytes:
        """A body: escaped in JSON, percent-encoded in a form, as it is anywhere else."""
        kind = content_type.partition(";")[0].strip().lower()
        if kind == "application/json" or kind.endswith("+json"):
            return self._swapped(body, lambda value: json.dumps(value)[1:-1])
        if kind == "application/x-www-form-urlencoded":
            return self._swapped(body, quote_plus)
        return self._swapped(body, str)

    def _header(self, name: bytes, value: bytes) -> bytes:
        if name.lower() == b"authorization" and (found := _BASIC.fullmatch(value)):
            try:
                pair = base64.b64decode(found.group(2), validate=True)
            except binascii.Error:
                return value
            swapped = self._swapped(pair, str, in_head=True)
            return value if swapped == pair else found.group(1) + base64.b64encode(swapped)
        return self._swapped(value, str, in_head=True)

    def _swapped(self, data: bytes, encode: Callable[[str], str], *, in_head: bool = False) -> bytes:
        if self._wanted is None:
            return data

        def value(found: re.Match[bytes]) -> bytes:
            secret = self._by_placeholder[found.group()]
            if in_head and _BREAKS.search(secret.value):
                raise RefusedError(
                    f"The secret {secret.name} has a line break in its value, which neither a header nor a "
                    "path can hold: ask its owner to save it without."
                )
            self.used.add(secret.name)
            return encode(secret.value).encode()

        return self._wanted.sub(value, data)
