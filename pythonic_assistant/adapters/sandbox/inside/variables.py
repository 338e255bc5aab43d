"""Variables as files of plain data, and back. Nothing is pickled, so that reading them runs no code.

Formats: data frames and series as Parquet, arrays as .npy, simple values as JSON, pictures as PNG.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from . import describe, plain
from .interrupts import Interrupts

FOLDER = ".variables"
CATALOGUE = "catalogue.json"
FILE_BYTES = 64 << 20
TOTAL_BYTES = 256 << 20
MOST = 200
SECONDS = 20.0
ENDINGS = {
    "frame": "parquet",
    "series": "parquet",
    "array": "npy",
    "json": "json",
    "value": "json",
    "picture": "png",
}
_MAX_REASON = 300
_SKIPPED = (types.FunctionType, types.BuiltinFunctionType, type, types.MethodType)


class UnsavableError(Exception):
    """The value cannot be saved; the argument says why, in a few words."""


def save(public: Mapping[str, Any], interrupts: Interrupts) -> dict[str, object]:
    """Write each variable that can be written into `FOLDER`; return what became of each.

    Args:
        public: the variables; functions and classes among them are left out.
        interrupts: the host's, at which the variable under way and all that follow are given up.
    """
    folder = Path(FOLDER)
    saved: list[dict[str, object]] = []
    unsaved: list[dict[str, str]] = []
    until = time.monotonic() + SECONDS
    interrupts.seen = False
    room = TOTAL_BYTES
    trouble = _empty(folder)
    for name, value in public.items():
        kind, reason = "object", trouble
        if len(saved) >= MOST:
            reason = f"only {MOST} variables are kept"
        elif interrupts.seen or time.monotonic() > until:
            reason = "time was up"
        try:
            if isinstance(value, _SKIPPED):
                continue
            kind = describe.type_name(value)
            if not reason:
                try:
                    interrupts.begin()
                    entry = _write(value, folder, f"{len(saved):03d}", min(FILE_BYTES, room))
                finally:
                    interrupts.end()
                room -= cast("int", entry["bytes"])
                saved.append({"name": name, "type": kind, **entry})
                continue
        except KeyboardInterrupt:
            reason = "saving it took too long"
        except UnsavableError as error:
            reason = str(error)
        except BaseException as error:  # noqa: BLE001  (a library that cannot, or a hostile object)
            reason = f"{type(error).__name__}: {_first_line(error)}"
        unsaved.append({"name": name, "type": kind, "reason": reason[:_MAX_REASON]})
    return {"ok": True, "saved": saved, "unsaved": unsaved}


def clear() -> None:
    """Remove what `save` wrote."""
    shutil.rmtree(FOLDER, ignore_errors=True)


def restore(namespace: dict[str, Any]) -> list[str]:
    """Define the variables that the catalogue in `FOLDER` lists; return the names of those that were read."""
    try:
        listed = json.loads(Path(FOLDER, CATALOGUE).read_text())["variables"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    names: list[str] = []
    for entry in cast("list[Any]", listed if isinstance(listed, list) else []):
        try:
            name, kind = str(entry["name"]), str(entry["kind"])
            path = Path(FOLDER, os.path.basename(str(entry["file"])))  # noqa: PTH119
            value = _READERS[kind](path, entry)
        except Exception as error:  # noqa: BLE001  (a file that was damaged: the others are still good)
            sys.stderr.write(
                f"A saved variable cannot be read: {type(error).__name__}: {_first_line(error)}\n"
            )
            continue
        namespace[name] = value
        names.append(name)
    return names


def _empty(folder: Path) -> str:
    """Make the folder anew; return why it cannot be made, or nothing."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        return f"no file can be written ({error.strerror})"
    return ""


def _write(value: Any, folder: Path, file: str, room: int) -> dict[str, object]:
    """Write one value.

    Raises:
        UnsavableError: it cannot be saved.
    """
    write, kind, shape, extra = _way(value)
    path = folder / f"{file}.{ENDINGS[kind]}"
    size = room + 1
    try:
        write(path)
        size = path.stat().st_size
    finally:
        if size > room:
            path.unlink(missing_ok=True)
    if size > room:
        cap, what = (FILE_BYTES, "one variable") if room == FILE_BYTES else (TOTAL_BYTES, "all variables")
        raise UnsavableError(f"it is beyond the limit of {cap >> 20} MiB for {what}")
    return {"kind": kind, "file": path.name, "shape": shape, "bytes": size, **extra}


def _way(value: Any) -> tuple[Callable[[Path], Any], str, str, dict[str, object]]:
    """Return how a value is written: the work, the kind, its shape, and what else reading needs."""
    pandas, numpy = sys.modules.get("pandas"), sys.modules.get("numpy")
    if pandas is not None and type(value) is pandas.DataFrame:
        rows, columns = value.shape
        _ensure_memory(int(value.memory_usage(deep=False).sum()))
        return value.to_parquet, "frame", f"{rows} x {columns}", {}
    if pandas is not None and type(value) is pandas.Series:
        if not (value.name is None or isinstance(value.name, str | int)):
            raise UnsavableError("its name is neither text nor a number")
        _ensure_memory(int(value.memory_usage(deep=False)))
        frame = value.to_frame("value")
        return frame.to_parquet, "series", str(len(value)), {"label": value.name}
    if numpy is not None and type(value) is numpy.ndarray:
        if value.dtype.hasobject:
            raise UnsavableError(
                "an array of Python objects has no plain form; make it a list or a data frame"
            )
        _ensure_memory(int(value.nbytes))
        shape = " x ".join(str(size) for size in value.shape)
        return lambda path: numpy.save(path, value, allow_pickle=False), "array", shape, {}
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    if figure is not None and isinstance(value, figure):
        return lambda path: value.savefig(path, format="png"), "picture", "", {}
    image = getattr(sys.modules.get("PIL.Image"), "Image", None)
    if image is not None and isinstance(value, image):
        return lambda path: value.save(path, format="PNG"), "picture", f"{value.width} x {value.height}", {}
    try:
        text, simple = plain.dumps(value)
    except plain.NotPlainError as error:
        raise UnsavableError(str(error)) from None
    length = str(len(value)) if type(value) in (list, tuple, dict, set, frozenset) else ""
    return lambda path: path.write_text(text), "json" if simple else "value", length, {}


def _ensure_memory(size: int) -> None:
    """Refuse early what would fill the disk before it turns out to be too large."""
    if size > 16 * FILE_BYTES:
        raise UnsavableError(f"it is beyond the limit of {FILE_BYTES >> 20} MiB for one variable")


def _first_line(error: BaseException) -> str:
    try:
        return str(error).partition("\n")[0]
    except BaseException:  # noqa: BLE001  (a hostile exception)
        return ""


def _frame(path: Path, _: Mapping[str, Any]) -> Any:
    pd: Any = importlib.import_module("pandas")
    return pd.read_parquet(path)


def _series(path: Path, entry: Mapping[str, Any]) -> Any:
    pd: Any = importlib.import_module("pandas")
    return pd.read_parquet(path)["value"].rename(entry.get("label"))


def _array(path: Path, _: Mapping[str, Any]) -> Any:
    np: Any = importlib.import_module("numpy")
    return np.load(path, allow_pickle=False)


def _value(path: Path, _: Mapping[str, Any]) -> Any:
    return plain.loads(path.read_text())


def _picture(path: Path, _: Mapping[str, Any]) -> Any:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
        return picture


_READERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Any]] = {
    "frame": _frame,
    "series": _series,
    "array": _array,
    "json": _value,
    "value": _value,
    "picture": _picture,
}
