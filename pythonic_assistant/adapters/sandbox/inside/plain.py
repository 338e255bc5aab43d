"""Simple values as JSON and back, exactly: what JSON has no word for is an object with the one key `$`.

    {"$": ["tuple", [1, 2]]}        {"$": ["datetime", "2026-02-01T10:00:00", "Europe/Berlin", 0]}

Reading makes values of these types and of no others, so that a file cannot bring code along.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import fractions
import importlib
import json
import math
import pathlib
import sys
import uuid
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any, cast

from . import describe

_TAG = "$"
_LIBRARY = frozenset({"numpy", "Timestamp", "Timedelta", "NA", "NaT"})
_DEEPEST = 100
_MOST_ITEMS = 2_000_000
_SMALL_INTEGER = 1 << 53  # other readers of JSON keep integers up to here


class NotPlainError(Exception):
    """The value holds something that cannot be told as plain data; the argument says what."""


def dumps(value: Any) -> tuple[str, bool]:
    """Return a value as JSON, and whether any JSON reader gives it back (else only `loads` does).

    Raises:
        NotPlainError: something in it is of another type, or it is too deep or too large.
    """
    writer = _Writer()
    written = writer.write(value, 0)
    return json.dumps(written, ensure_ascii=False, allow_nan=False), not writer.tagged


def loads(text: str) -> Any:
    """Return the value.

    Raises:
        ValueError: the text was not made by `dumps`.
    """
    try:
        return _read(json.loads(text))
    except (TypeError, KeyError, IndexError, ArithmeticError, RecursionError, AttributeError) as error:
        raise ValueError(f"not a saved value: {type(error).__name__}: {error}") from error


class _Writer:
    def __init__(self) -> None:
        self.tagged = False
        self._items = 0

    def write(self, value: Any, depth: int) -> Any:
        self._items += 1
        if depth > _DEEPEST:
            raise NotPlainError("it is nested too deeply, or holds itself")
        if self._items > _MOST_ITEMS:
            raise NotPlainError(
                f"it has more than {_MOST_ITEMS:,} items; a data frame or an array could hold them"
            )
        kind = cast("type[Any]", type(value))
        if value is None or kind is bool:
            return value
        if kind is str:
            if not _is_text(value):
                return self._tag("text", base64.b64encode(value.encode("utf-8", "surrogatepass")).decode())
            return value
        if kind is int:
            return value if abs(value) <= _SMALL_INTEGER else self._tag("int", hex(value))
        if kind is float:
            return value if math.isfinite(value) else self._tag("float", repr(value))
        if kind is list:
            return [self.write(item, depth + 1) for item in value]
        if kind is dict:
            return self._mapping(value, depth)
        if kind in (tuple, set, frozenset):
            return self._tag(kind.__name__, [self.write(item, depth + 1) for item in value])
        if (write := _WRITERS.get(kind)) is not None:
            return self._tag(*write(value))
        return self._library(value)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        # A lone surrogate is no JSON; such a key is told like any other value.
        if all(type(key) is str and _is_text(key) for key in value) and _TAG not in value:
            return {key: self.write(item, depth + 1) for key, item in value.items()}
        return self._pairs(value, depth)

    def _pairs(self, value: Mapping[Any, Any], depth: int) -> Any:
        pairs = [[self.write(key, depth + 1), self.write(item, depth + 1)] for key, item in value.items()]
        return self._tag("dict", pairs)

    def _library(self, value: Any) -> Any:
        """Write a scalar of numpy or pandas."""
        numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
        if pandas is not None:
            if value is pandas.NA or value is pandas.NaT:
                return self._tag("NA" if value is pandas.NA else "NaT")
            if type(value) is pandas.Timestamp:
                return self._tag("Timestamp", int(value.asm8.view("i8")), value.unit, *_zone(value.tzinfo))
            if type(value) is pandas.Timedelta:
                return self._tag("Timedelta", int(value.asm8.view("i8")), value.unit)
        if numpy is not None and isinstance(value, numpy.generic) and type(value).__module__ == "numpy":
            if value.dtype.hasobject or value.dtype.fields:
                raise NotPlainError(f"it holds a {type(value).__qualname__}")
            data = base64.b64encode(value.tobytes()).decode()
            return self._tag("numpy", value.dtype.str, data)
        raise NotPlainError(f"it holds a {describe.type_name(value)}")

    def _tag(self, name: str, *content: Any) -> dict[str, Any]:
        self.tagged = True
        return {_TAG: [name, *content]}


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # lone surrogates
        return False
    return True


def _zone(zone: dt.tzinfo | None) -> tuple[Any, ...]:
    """Return what names a time zone: nothing, its key, or its offset in seconds."""
    if zone is None:
        return (None,)
    if type(zone) is zoneinfo.ZoneInfo and zone.key:  # one that was read from a file has none
        return (zone.key,)
    if type(zone) is dt.timezone:
        offset = zone.utcoffset(None)
        return ([offset.days, offset.seconds, offset.microseconds],)
    raise NotPlainError(f"it holds a time zone of the kind {type(zone).__qualname__}")


def _zone_of(told: Any) -> dt.tzinfo | None:
    if told is None:
        return None
    if isinstance(told, str):
        return zoneinfo.ZoneInfo(told)
    return dt.timezone(dt.timedelta(*told))


def _datetime(value: dt.datetime) -> tuple[Any, ...]:
    return ("datetime", value.replace(tzinfo=None, fold=0).isoformat(), value.fold, *_zone(value.tzinfo))


def _time(value: dt.time) -> tuple[Any, ...]:
    return ("time", value.replace(tzinfo=None, fold=0).isoformat(), value.fold, *_zone(value.tzinfo))


def _range(value: range) -> tuple[Any, ...]:
    return ("range", hex(value.start), hex(value.stop), hex(value.step))


_WRITERS: Mapping[type, Callable[[Any], tuple[Any, ...]]] = {
    bytes: lambda v: ("bytes", base64.b64encode(v).decode()),
    bytearray: lambda v: ("bytearray", base64.b64encode(v).decode()),
    complex: lambda v: ("complex", repr(v.real), repr(v.imag)),
    range: _range,
    dt.datetime: _datetime,
    dt.date: lambda v: ("date", v.isoformat()),
    dt.time: _time,
    dt.timedelta: lambda v: ("timedelta", v.days, v.seconds, v.microseconds),
    decimal.Decimal: lambda v: ("Decimal", str(v)),
    fractions.Fraction: lambda v: ("Fraction", hex(v.numerator), hex(v.denominator)),
    pathlib.PosixPath: lambda v: ("Path", str(v)),
    pathlib.PurePosixPath: lambda v: ("PurePath", str(v)),
    uuid.UUID: lambda v: ("UUID", str(v)),
}


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    entry = cast("dict[str, Any]", value)
    if entry.keys() != {_TAG}:
        return {key: _read(item) for key, item in entry.items()}
    name, *content = entry[_TAG]
    return _read_library(name, content) if name in _LIBRARY else _read_builtin(name, content)


def _read_builtin(name: str, content: list[Any]) -> Any:
    match name:
        case "text":
            return base64.b64decode(content[0]).decode("utf-8", "surrogatepass")
        case "int":
            return int(content[0], 16)
        case "float":
            return float(content[0])
        case "complex":
            return complex(float(content[0]), float(content[1]))
        case "tuple":
            return tuple(_read(content[0]))
        case "set":
            return set(_read(content[0]))
        case "frozenset":
            return frozenset(_read(content[0]))
        case "dict":
            return {_read(key): _read(item) for key, item in content[0]}
        case "bytes":
            return base64.b64decode(content[0])
        case "bytearray":
            return bytearray(base64.b64decode(content[0]))
        case "range":
            return range(*(int(part, 16) for part in content))
        case _:
            return _read_standard(name, content)


def _read_standard(name: str, content: list[Any]) -> Any:
    match name:
        case "datetime":
            return dt.datetime.fromisoformat(content[0]).replace(fold=content[1], tzinfo=_zone_of(content[2]))
        case "date":
            return dt.date.fromisoformat(content[0])
        case "time":
            return dt.time.fromisoformat(content[0]).replace(fold=content[1], tzinfo=_zone_of(content[2]))
        case "timedelta":
            return dt.timedelta(*content)
        case "Decimal":
            return decimal.Decimal(content[0])
        case "Fraction":
            return fractions.Fraction(int(content[0], 16), int(content[1], 16))
        case "Path":
            return pathlib.PosixPath(content[0])
        case "PurePath":
            return pathlib.PurePosixPath(content[0])
        case "UUID":
            return uuid.UUID(content[0])
        case _:
            raise ValueError(f"there is no kind {name!r}")


def _read_library(name: str, content: list[Any]) -> Any:
    if name == "numpy":
        np: Any = importlib.import_module("numpy")
        kind = np.dtype(str(content[0]))
        if kind.hasobject:
            raise ValueError("an object is no plain value")
        return np.frombuffer(base64.b64decode(content[1]), kind, 1)[0]
    np, pd = importlib.import_module("numpy"), importlib.import_module("pandas")
    match name:
        case "NA":
            return pd.NA
        case "NaT":
            return pd.NaT
        case "Timedelta":
            return pd.Timedelta(np.timedelta64(int(content[0]), str(content[1])))
        case _:
            count, unit, zone = content
            naive = pd.Timestamp(np.datetime64(int(count), str(unit)))
            return naive if zone is None else naive.tz_localize("UTC").tz_convert(_zone_of(zone))
