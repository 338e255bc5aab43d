"""Cuts the values of secrets out of an answer while it streams by."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from typing import Final

from pythonic_assistant.adapters.egress.refusal import FailedError
from pythonic_assistant.domain.redaction import Redactor

_PIECE: Final = 1 << 18


class Held:
    """Keeps the end of a stream back while it may be the beginning of a word that is looked for.

    Args:
        words: what is looked for.
    """

    def __init__(self, words: Collection[bytes]) -> None:
        self._words = words
        self._longest = max(map(len, words), default=1)
        self._held = b""

    def join(self, data: bytes) -> bytes:
        """What was held back, and what came."""
        return self._held + data

    def settled(self, data: bytes) -> int:
        """How many bytes at the beginning may go: what follows may be the beginning of a word."""
        end = data[max(len(data) - self._longest + 1, 0) :]
        return len(data) - max((_begun(word, end) for word in self._words), default=0)

    def split(self, data: bytes, cut: int | None = None) -> bytes:
        """Hold the end back; what may go.

        Args:
            cut: where; by default what is settled.
        """
        cut = self.settled(data) if cut is None else cut
        self._held = data[cut:]
        return data[:cut]

    def rest(self) -> bytes:
        """What is left at the end."""
        rest, self._held = self._held, b""
        return rest


def _begun(word: bytes, end: bytes) -> int:
    """How many bytes at the end are the beginning of a word."""
    place = end.find(word[:1])
    while place >= 0:
        if word.startswith(end[place:]):
            return len(end) - place
        place = end.find(word[:1], place + 1)
    return 0


class Scrubber:
    """Replaces values in a stream, across the borders of its pieces.

    Args:
        redactor: replaces them.
        words: every spelling that it knows.
    """

    def __init__(self, redactor: Redactor, words: Collection[bytes]) -> None:
        self._redactor = redactor
        self._words = words
        self._held = Held(words)

    def feed(self, data: bytes) -> bytes:
        """Return what can be judged by now."""
        data = self._held.join(data)
        cut = self._held.settled(data)
        if any(word in data for word in self._words):  # faster than the redactor's expression
            # Replaced when it is whole: one value may be the beginning of another one.
            return self._redactor.data(self._held.split(data, self._redactor.whole(data, cut)))
        return self._held.split(data, cut)

    def finish(self) -> bytes:
        """Return the rest."""
        return self._redactor.data(self._held.rest())


class Inflater:
    """Decompresses a body; nothing grows beyond a piece at a time.

    Args:
        encoding: of the header Content-Encoding.

    Raises:
        FailedError: it is one that cannot be read here.
    """

    def __init__(self, encoding: str) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise FailedError(
                f"The answer is encoded as {encoding[:40]!r} although it was asked for unencoded; it "
                "cannot be searched for secrets."
            )
        self._gzip = encoding != "deflate"
        self._inflate = zlib.decompressobj(wbits=31 if self._gzip else 15)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield pieces.

        Raises:
            FailedError: it is not compressed as it says.
        """
        try:
            while data:
                if self._inflate.eof:  # a gzip file may have several members (RFC 1952, 2.2)
                    if not self._gzip:
                        return
                    self._inflate = zlib.decompressobj(wbits=31)
                yield self._piece(data)
                data = self._inflate.unconsumed_tail or self._inflate.unused_data
        except zlib.error as error:
            raise FailedError("The answer is not compressed as it says.") from error

    def finish(self) -> bytes:
        """Return the rest.

        Raises:
            FailedError: the end is missing.
        """
        try:
            rest = self._inflate.flush()
        except zlib.error as error:
            raise FailedError("The answer is not compressed as it says.") from error
        if self._begun and not self._inflate.eof:
            raise FailedError("The end of the compressed answer is missing.")
        return rest

    def _piece(self, data: bytes) -> bytes:
        if not self._begun and not self._gzip and data[0] & 0x0F != zlib.DEFLATED:
            # Many servers send "deflate" without the zlib header that RFC 9110, 8.4.1.2 wants.
            self._inflate = zlib.decompressobj(wbits=-15)
        self._begun = True
        return self._inflate.decompress(data, _PIECE)
