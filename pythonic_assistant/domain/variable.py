"""Values that outlive a session, as files of plain data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedVariable:
    """A variable that was saved as a file; nothing in it is ever unpickled.

    Attributes:
        name: the variable's name.
        type: as `VariableInfo.type`, such as pandas.DataFrame.
        shape: of frames and arrays, such as "344 x 7"; the length of other containers; else empty.
        bytes: of the file.
        media_type: application/vnd.apache.parquet, application/x-npy, application/json or image/png.
        load: one line of Python that gives the value back; `{path!r}` stands for where the file is then.
        path: where the file is on the host; relative to the catalogue in a session.
    """

    name: str
    type: str
    shape: str
    bytes: int
    media_type: str
    load: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsavedVariable:
    """A variable that could not be saved, and why, in a few words."""

    name: str
    type: str
    reason: str
