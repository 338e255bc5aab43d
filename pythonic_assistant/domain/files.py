"""Files that go into a task and come out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A file that the person gave. Code sees it, read-only, as `inputs/<name>`."""

    name: str
    path: Path
    media_type: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFile:
    """A file that a task left, already copied to a place of the host.

    Attributes:
        name: relative path below the scratch folder, with forward slashes.
        path: where the copy is on the host.
        media_type: by content where that is known, else by ending.
        bytes: size.
        sha256: hex digest of the content.
    """

    name: str
    path: Path
    media_type: str
    bytes: int
    sha256: str
