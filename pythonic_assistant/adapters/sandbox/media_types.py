"""The media type of a file: by content for the kinds that code leaves most, else by ending."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath

UNKNOWN = "application/octet-stream"
HEAD_BYTES = 16
TAIL_BYTES = 1 << 16

_SPREADSHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_DOCUMENT = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_PRESENTATION = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_PARQUET = "application/vnd.apache.parquet"

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"%PDF-", "application/pdf"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"PAR1", _PARQUET),
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# The list of members stands at the end of a zip file.
_IN_ZIP = (
    (b"xl/workbook.xml", _SPREADSHEET),
    (b"word/document.xml", _DOCUMENT),
    (b"ppt/presentation.xml", _PRESENTATION),
)
_NEEDS_CONTENT = frozenset(
    {"application/zip", _SPREADSHEET, _DOCUMENT, _PRESENTATION, *(kind for _, kind in _MAGIC)}
)
_BY_ENDING = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": _PARQUET,
    ".tsv": "text/tab-separated-values",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_TYPES = mimetypes.MimeTypes()  # without the host's files: the same answer everywhere


def media_type(name: str, head: bytes, tail: bytes) -> str:
    """Return the media type of a file.

    Args:
        name: its file name.
        head: its first `HEAD_BYTES` bytes or more.
        tail: its last `TAIL_BYTES` bytes, or all of a smaller file.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith(_ZIP):
        return next((kind for member, kind in _IN_ZIP if member in tail), "application/zip")
    ending = PurePosixPath(name).suffix.lower()
    guessed = _BY_ENDING.get(ending) or _TYPES.guess_type(f"file{ending}")[0] or UNKNOWN
    # It calls itself a picture, but it is none.
    return UNKNOWN if guessed in _NEEDS_CONTENT else guessed
