"""Turns an upload in a form (multipart/form-data) into its bare file while it passes by.

lite would read a form whole, several times over, before it keeps the file; a bare body it reads as a stream.
The official clients send forms. Their other fields are dropped, as lite drops them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from embedded_supabase.gateway.asgi import RefusedError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFile:
    """The file of a form.

    Attributes:
        media_type: as its sender says.
        overhead: bytes of the form around the file, if it comes last; a few more when a piece of the form
            ends within its closing line.
        content: the file; raises `RefusedError` when the form is broken.
    """

    media_type: bytes
    overhead: int
    content: AsyncIterator[bytes]


def boundary_of(content_type: str | None) -> bytes | None:
    """The boundary of a form; None if it is none."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary") or None if kind == b"multipart/form-data" else None


async def file_of(form: AsyncIterator[bytes], boundary: bytes) -> FormFile:
    """Read a form up to the beginning of its file.

    Raises:
        RefusedError: it is broken, or has no file.
    """
    reader = _Reader(boundary)
    before = 0
    async for part in form:
        reader.feed(part)
        if reader.media_type is not None:
            kept = sum(len(piece) for piece in reader.pieces)
            around = before + len(part) - kept + len(b"\r\n--" + boundary + b"--\r\n")
            return FormFile(
                media_type=reader.media_type,
                # What follows the file in this part has been counted already.
                overhead=around if not reader.ended else before + len(part) - kept,
                content=_content(form, reader),
            )
        before += len(part)
    raise _broken()


async def _content(form: AsyncIterator[bytes], reader: _Reader) -> AsyncIterator[bytes]:
    while True:
        for piece in reader.take():
            yield piece
        try:
            part = await anext(form)
        except StopAsyncIteration:
            break
        reader.feed(part)
    if not reader.ended:
        raise _broken()


def _broken() -> RefusedError:
    return RefusedError(400, "bad_form", "The form has no file in it, or is cut off: send it again.")


class _Reader:
    """Picks the first file out of a form.

    Attributes:
        media_type: of the file; None before it has begun.
        pieces: of the file, in order, not taken yet.
        ended: whether the whole file has been seen.
    """

    def __init__(self, boundary: bytes) -> None:
        self.media_type: bytes | None = None
        self.pieces: list[bytes] = []
        self.ended = False
        self._inside = False
        self._field = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._headers.clear,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            RefusedError: this is no form.
        """
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise _broken() from error

    def take(self) -> list[bytes]:
        """The pieces of the file that were read since the last call."""
        taken, self.pieces = self.pieces, []
        return taken

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"filename" in options and self.media_type is None:
            self.media_type = self._headers.get(b"content-type", b"application/octet-stream")
            self._inside = True

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self.pieces.append(data[start:end])

    def _on_end(self) -> None:
        self.ended = self.ended or self._inside
        self._inside = False
