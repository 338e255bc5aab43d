"""Looks for the values of secrets in a file, and in what is compressed in it, with bounded time and memory.

A file is read once, from its beginning to its end. Wherever a compressed stream begins in it (a member of a
zip file such as xlsx, docx or npz; gzip, also in pages of Parquet; bzip2; xz), it is unpacked beside that,
and looked through in the same way. No directory of an archive is trusted, or even read.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.secret import BoundSecret

MOST_UNPACKED: Final = 256 << 20
"""Bytes that go into unpacking one file or come out of it, all streams together."""
MOST_STREAMS: Final = 20_000
MOST_AT_ONCE: Final = 8
"""Streams that are open at the same time; honest archives have one for each level."""
DEEPEST: Final = 4
"""Levels: a text in a gzip file in a zip file is on the second."""
_MOST_XZ_MEMORY: Final = 80 << 20
"""Of one stream; the highest preset needs 65 MiB (`man xz`)."""
_CHUNK: Final = 1 << 20
_PIECE: Final = 1 << 18
_ZIP_HEADER: Final = 30
"""Bytes of a local file header before its name: APPNOTE.TXT, 4.3.7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came to.

    Attributes:
        names: of the secrets whose values the file holds.
        unseen: what could not be looked into, each in a few words.
    """

    names: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


def secrets_in(path: Path, secrets: Sequence[BoundSecret]) -> Found:
    """Look for values in any spelling that a `Redactor` knows; ends as soon as all are found."""
    search = _Search(secrets)
    stream = _Stream(search, 0)
    with path.open("rb") as file:
        while search.missing and (chunk := file.read(max(_CHUNK, search.overlap))):
            stream.feed(chunk)
    return Found(names=tuple(sorted(search.found)), unseen=tuple(sorted(search.unseen)))


class _Search:
    """What all streams of one file share."""

    def __init__(self, secrets: Sequence[BoundSecret]) -> None:
        redactors = {secret.name: Redactor({secret.value: secret.placeholder}) for secret in secrets}
        self.missing = {name: redactor for name, redactor in redactors.items() if redactor}
        self.overlap = max((redactor.longest for redactor in redactors.values()), default=0)
        self.found: list[str] = []
        self.unseen: set[str] = set()
        self.left = MOST_UNPACKED
        self.begun = 0
        self.open = 0

    def look(self, window: bytes) -> None:
        for name in [name for name, redactor in self.missing.items() if redactor.found_in(window)]:
            self.found.append(name)
            del self.missing[name]

    def may_begin(self) -> bool:
        self.begun += 1
        if self.begun > MOST_STREAMS:
            self.unseen.add(f"more than {MOST_STREAMS:,} compressed parts")
        elif self.open >= MOST_AT_ONCE:
            self.unseen.add("compressed parts that lie in one another")
        return self.begun <= MOST_STREAMS and self.open < MOST_AT_ONCE

    def spend(self, count: int) -> bool:
        self.left -= count
        if self.left < 0:
            self.unseen.add(f"what comes after {MOST_UNPACKED >> 20} MiB of unpacked content")
        return self.left >= 0


class _Unpacker(Protocol):
    """One compressed stream."""

    @property
    def eof(self) -> bool: ...

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Unpack; raises `zlib.error`, `OSError` or `lzma.LZMAError` for what is no such stream."""
        ...


class _Deflate:
    def __init__(self, window: int) -> None:
        self._inner = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data and not self._inner.eof:
            yield self._inner.decompress(data, _PIECE)
            data = self._inner.unconsumed_tail


class _Block:
    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inner = inner

    @property
    def eof(self) -> bool:
        return self._inner.eof

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while not self._inner.eof:
            yield self._inner.decompress(data, _PIECE)
            data = b""
            if self._inner.needs_input:
                return


def _gzip() -> _Unpacker:
    return _Deflate(16 + zlib.MAX_WBITS)


def _bzip2() -> _Unpacker:
    return _Block(bz2.BZ2Decompressor())


def _xz() -> _Unpacker:
    return _Block(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_XZ_MEMORY))


class _ZipMember:
    """From its local header on. Where its data ends, the compressed stream itself says."""

    def __init__(self, unseen: set[str]) -> None:
        self._unseen = unseen
        self._head = b""
        self._inner: _Unpacker | None = None
        self._stored = False

    @property
    def eof(self) -> bool:
        return self._stored or (self._inner is not None and self._inner.eof)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._inner is None:
            self._head += data
            data = self._begin()
        if self._inner is not None:
            yield from self._inner.pieces(data)

    def _begin(self) -> bytes:
        """Read the header once it is complete; returns what comes after it."""
        if len(self._head) < _ZIP_HEADER:
            return b""
        flags, method = _number(self._head, 6), _number(self._head, 8)
        begin = _ZIP_HEADER + _number(self._head, 26) + _number(self._head, 28)
        if flags & 1:
            self._unseen.add("an encrypted zip file")
            self._stored = True
        elif method == 0:
            self._stored = True  # whoever reads the archive itself has seen it
        elif method not in _METHODS:
            self._unseen.add("a zip file with an unusual compression")
            self._stored = True
        elif len(self._head) >= begin:
            self._inner = _METHODS[method]()
            return self._head[begin:]
        return b""


def _number(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 2], "little")


_METHODS: Final[dict[int, Callable[[], _Unpacker]]] = {8: lambda: _Deflate(-zlib.MAX_WBITS), 12: _bzip2}
"""By their numbers in zip files (APPNOTE.TXT, 4.4.5)."""
_ZIP: Final = b"PK\x03\x04"
_STREAMS: Final[dict[bytes, Callable[[], _Unpacker]]] = {
    b"\x1f\x8b\x08": _gzip,  # RFC 1952, 2.3.1
    **{b"BZh%d1AY&SY" % level: _bzip2 for level in range(1, 10)},
    b"\xfd7zXZ\x00": _xz,
}
_OTHERS: Final = {
    b"\x28\xb5\x2f\xfd": "content in zstd",  # RFC 8878, 3.1.1
    b"\x04\x22\x4d\x18": "content in LZ4",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
}
_LONGEST_MARK: Final = max(len(mark) for mark in (_ZIP, *_STREAMS, *_OTHERS))


class _Stream:
    """Bytes that are looked through, and what is compressed in them."""

    def __init__(self, search: _Search, depth: int) -> None:
        self._search = search
        self._depth = depth
        self._tail = b""
        self._inner: list[tuple[_Unpacker, _Stream]] = []

    def feed(self, chunk: bytes) -> None:
        for inner in list(self._inner):
            self._unpack(inner, chunk)
        # With the end of the piece before, so that nothing falls between two.
        window = self._tail + chunk
        self._search.look(window)
        for place, make in self._begins(window, len(self._tail)):
            if self._search.may_begin():
                self._search.open += 1
                inner = (make(), _Stream(self._search, self._depth + 1))
                self._inner.append(inner)
                self._unpack(inner, window[place:])
        self._tail = window[-max(self._search.overlap, _LONGEST_MARK) :]

    def _begins(self, window: bytes, old: int) -> Iterator[tuple[int, Callable[[], _Unpacker]]]:
        """Yield where compressed streams begin that the last window did not show whole."""
        for mark, words in _OTHERS.items():
            if mark in window:
                self._search.unseen.add(words)
        made: dict[bytes, Callable[[], _Unpacker]] = {
            _ZIP: lambda: _ZipMember(self._search.unseen),
            **_STREAMS,
        }
        for mark, make in made.items():
            place = window.find(mark, max(0, old - len(mark) + 1))
            while place >= 0 and self._search.missing and self._search.left >= 0:
                if self._depth == DEEPEST:
                    self._search.unseen.add(f"archives in one another, {DEEPEST} deep and more")
                    return
                yield place, make
                place = window.find(mark, place + 1)

    def _unpack(self, inner: tuple[_Unpacker, _Stream], data: bytes) -> None:
        unpacker, stream = inner
        going = self._search.spend(len(data))
        try:
            for piece in unpacker.pieces(data) if going else ():
                if not self._search.spend(len(piece)):
                    going = False
                    break
                stream.feed(piece)
        except lzma.LZMAError as error:
            if "memory" in str(error).lower():
                self._search.unseen.add("content in xz that takes much memory to unpack")
            going = False
        except (zlib.error, OSError, EOFError):
            going = False  # it only looked like a beginning, or it is broken
        if not going or unpacker.eof:
            self._inner.remove(inner)
            stream.close()
            self._search.open -= 1

    def close(self) -> None:
        """Let go of what was still open in here."""
        self._search.open -= len(self._inner)
        for _, stream in self._inner:
            stream.close()
        self._inner.clear()
