"""Variables that a session has written, taken to the host: files are copied, claims about them checked."""

from __future__ import annotations

import json
import keyword
import re
import threading
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, cast

from pythonic_assistant.adapters.sandbox.collect import TooLargeError, copy
from pythonic_assistant.adapters.sandbox.inside import variables
from pythonic_assistant.domain.variable import SavedVariable, UnsavedVariable

SAVE_SECONDS = variables.SECONDS + 2.0
_MAX_NAME, _MAX_REASON, _MAX_LABEL = 200, 300, 200
_MOST_UNSAVED = 1_000
_SHAPE = re.compile(r"[0-9]{1,15}( x [0-9]{1,15}){0,31}\Z|\Z")
# Media type, how the file begins, and the line that gives the value back.
_KINDS: Mapping[str, tuple[str, bytes, str]] = {
    "frame": ("application/vnd.apache.parquet", b"PAR1", "pandas.read_parquet({path!r})"),
    "series": ("application/vnd.apache.parquet", b"PAR1", "pandas.read_parquet({path!r})['value']"),
    "array": ("application/x-npy", b"\x93NUMPY", "numpy.load({path!r}, allow_pickle=False)"),
    "json": ("application/json", b"", "json.load(open({path!r}))"),
    "value": ("application/json", b"", "saved.value({path!r})"),
    "picture": ("image/png", b"\x89PNG\r\n\x1a\n", "PIL.Image.open({path!r})"),
}


def keep(
    scratch: int, answer: Mapping[str, Any], into: Path, stop: threading.Event
) -> tuple[tuple[SavedVariable, ...], tuple[UnsavedVariable, ...]]:
    """Copy what a session says it has saved, and write the catalogue that `restore` reads.

    Args:
        scratch: descriptor of the session's scratch folder.
        answer: of the REPL; generated code may have forged it.
        into: folder of the host; made if missing.
        stop: ends the work early when set.
    """
    into.mkdir(parents=True, exist_ok=True)
    saved: list[SavedVariable] = []
    unsaved: list[UnsavedVariable] = []
    listed: list[dict[str, Any]] = []
    room = variables.TOTAL_BYTES
    for entry in _entries(answer, "saved")[: variables.MOST]:
        if stop.is_set():
            break
        name, kind_name = _text(entry, "name", _MAX_NAME), _text(entry, "type", _MAX_NAME)
        try:
            _ensure_name(name, {other.name for other in saved})
            found, line = _take(scratch, entry, into, len(saved), min(variables.FILE_BYTES, room))
        except TooLargeError:
            reason = f"it is beyond the limit of {variables.FILE_BYTES >> 20} MiB"
            unsaved.append(UnsavedVariable(name=name, type=kind_name, reason=reason))
        except (ValueError, OSError) as error:
            reason = f"its file was not as announced: {error}"[:_MAX_REASON]
            unsaved.append(UnsavedVariable(name=name, type=kind_name, reason=reason))
        else:
            room -= found.bytes
            saved.append(found)
            listed.append(line)
    unsaved += [
        UnsavedVariable(
            name=_text(entry, "name", _MAX_NAME),
            type=_text(entry, "type", _MAX_NAME),
            reason=_text(entry, "reason", _MAX_REASON),
        )
        for entry in _entries(answer, "unsaved")[:_MOST_UNSAVED]
    ]
    (into / variables.CATALOGUE).write_text(json.dumps({"variables": listed}, indent=1))
    return tuple(saved), tuple(unsaved)


def restored(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names that a session says it has defined."""
    names = answer.get("names")
    listed = cast("list[Any]", names) if isinstance(names, list) else []
    return tuple(name[:_MAX_NAME] for name in listed[: variables.MOST] if isinstance(name, str))


def _ensure_name(name: str, taken: Set[str]) -> None:
    # No session saves a private name, and `__builtins__` would take Python's own away where it is restored.
    if not name.isidentifier() or name.startswith("_") or keyword.iskeyword(name):
        raise ValueError("its name is no Python name, or a private one")
    if name in taken:
        raise ValueError("its name is given twice")


def _take(
    scratch: int, entry: Mapping[str, Any], into: Path, number: int, room: int
) -> tuple[SavedVariable, dict[str, Any]]:
    """Copy one file; return it and its line of the catalogue.

    Raises:
        ValueError: the claim makes no sense; the argument says which.
        TooLargeError: the file has more bytes than there is room for.
        OSError: the file cannot be copied.
    """
    name, kind, shape = _text(entry, "name", _MAX_NAME), entry.get("kind"), entry.get("shape")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError("its kind is unknown")
    if not isinstance(shape, str) or not _SHAPE.match(shape):
        raise ValueError("its shape is none")
    ending = variables.ENDINGS[kind]
    file = entry.get("file")
    if not isinstance(file, str) or not re.fullmatch(rf"[0-9]{{3}}\.{ending}", file):
        raise ValueError("its file has a wrong name")
    media_type, begin, load = _KINDS[kind]
    label = entry.get("label")
    if kind == "series":
        if (
            isinstance(label, bool)
            or not isinstance(label, str | int | None)
            or len(repr(label)) > _MAX_LABEL
        ):
            raise ValueError("the series has no usable name")
        load += f".rename({label!r})".replace("{", "{{").replace("}", "}}")
    # Our own number: what was refused leaves no gap, and no file is overwritten.
    target = into / f"{number:03d}.{ending}"
    copied = copy(scratch, f"{variables.FOLDER}/{file}", target, room)
    if copied is None:
        raise ValueError("it is no regular file")
    with target.open("rb") as opened:
        genuine = opened.read(len(begin)) == begin
    if not genuine:
        target.unlink()
        raise ValueError("its content is of another kind")
    found = SavedVariable(
        name=name,
        type=_text(entry, "type", _MAX_NAME),
        shape=shape,
        bytes=copied.bytes,
        media_type=media_type,
        load=load,
        path=target,
    )
    line: dict[str, Any] = {
        "name": name,
        "type": found.type,
        "shape": shape,
        "bytes": found.bytes,
        "media_type": media_type,
        "load": load,
        "file": target.name,
        "kind": kind,
    }
    if kind == "series":
        line["label"] = label
    return found, line


def _entries(answer: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = answer.get(key)
    listed = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", entry) for entry in listed if isinstance(entry, dict)]


def _text(entry: Mapping[str, Any], key: str, most: int) -> str:
    value = entry.get(key)
    return value[:most].encode("utf-8", "replace").decode() if isinstance(value, str) else ""
