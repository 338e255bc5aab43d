"""Names of files in Storage and on disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

BUCKET = "artifacts"
"""The one private bucket; every path in it begins with its person's id."""

_UNSAFE_FOR_STORAGE = re.compile(r"[^\w/!\-.*'() &$@;:+,?]", re.ASCII)
"""What Supabase Storage refuses in a key, and "=", which marks what was replaced, so that no two names meet:
https://supabase.com/docs/guides/storage/uploads/file-limits — the set of its `isValidKey`."""


LONGEST_KEY = 400
"""Of one name within a key, in characters; the whole key may have 1,000 in the table of artifacts."""


def unique_names(names: Sequence[str]) -> list[str]:
    """Make base names for a folder: no path, not hidden, at most 200 bytes, none twice.

    Later ones get a number before their ending: data.csv, data-2.csv.
    """
    taken: set[str] = set()
    made: list[str] = []
    for name in names:
        base = name.replace("\\", "/").rsplit("/", 1)[-1].replace("\0", "").strip().lstrip(".") or "file"
        stem, dot, ending = base.rpartition(".")
        stem, ending = (stem, dot + ending) if dot and len(ending) <= 20 else (base, "")
        stem = stem.encode()[: 200 - len(ending.encode())].decode(errors="ignore")
        candidate, number = stem + ending, 1
        while candidate in taken:
            number += 1
            candidate = f"{stem}-{number}{ending}"
        taken.add(candidate)
        made.append(candidate)
    return made


def storage_name(name: str) -> str:
    """A key for Storage made from an artifact's name; letters it does not take become their code points.

    A name that gets too long keeps its end, behind a digest of the whole.
    """
    key = _UNSAFE_FOR_STORAGE.sub(lambda match: f"={ord(match.group()):x}=", name)
    if len(key) <= LONGEST_KEY:
        return key
    return f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{key[-LONGEST_KEY // 2 :]}"
