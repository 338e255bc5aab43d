"""A short description of a variable, for the model.

Only values of known types are shown; of any other object the type is named and its `repr` is tried, under
the time limit of the whole operation.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Mapping, Sequence, Set
from typing import Any, cast

_MAX_SUMMARY = 600
_MAX_VALUE = 160
_MAX_COLUMNS = 12
_HEAD_ROWS = 3


def type_name(value: object) -> str:
    """Return the type's name, with its package where it is not built in."""
    kind = type(value)
    module = str(kind.__module__)
    if module in ("builtins", "__main__"):
        return str(kind.__qualname__)
    return f"{module.partition('.')[0]}.{kind.__qualname__}"


def summary(value: Any) -> str:
    """Return a few lines about a value: shape, types and a first look."""
    return _cut(_summary(value), _MAX_SUMMARY)


def _summary(value: Any) -> str:
    pandas, numpy = sys.modules.get("pandas"), sys.modules.get("numpy")
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return _frame(value)
    if pandas is not None and isinstance(value, pandas.Series):
        return f"length {len(value)}, dtype {value.dtype}\n{value.head(_HEAD_ROWS).to_string()}"
    if numpy is not None and isinstance(value, numpy.ndarray):
        first = numpy.array2string(value.reshape(-1)[:6], threshold=6) if value.dtype != object else ""
        return f"shape {value.shape}, dtype {value.dtype}, begins {first}"
    if isinstance(value, str | bytes | bytearray):
        begin = value[: _MAX_VALUE + 1]
        return f"length {len(value)}: {_cut(repr(begin), _MAX_VALUE)}"
    if isinstance(value, types.FunctionType):
        return f"{value.__name__}{inspect.signature(value)}"
    if isinstance(value, type):
        return f"class {value.__qualname__}"
    if isinstance(value, list | tuple | dict | set | frozenset):
        return _container(cast("list[Any] | dict[Any, Any]", value))
    return _cut(repr(value), _MAX_VALUE)


def _frame(frame: Any) -> str:
    rows, columns = frame.shape
    named = [f"{name} ({kind})" for name, kind in list(frame.dtypes.items())[:_MAX_COLUMNS]]
    more = f", and {columns - _MAX_COLUMNS} more" if columns > _MAX_COLUMNS else ""
    head = frame.iloc[:_HEAD_ROWS, :_MAX_COLUMNS].to_string(max_colwidth=24)
    return f"{rows} rows x {columns} columns: {', '.join(named)}{more}\n{head}"


def _container(value: Sequence[Any] | Mapping[Any, Any] | Set[Any]) -> str:
    """Show the beginning of a container without walking through all of it."""
    shown: list[str] = []
    for index, item in enumerate(value):
        if index == 5:
            shown.append("…")
            break
        text = _cut(repr(item), 40)
        if isinstance(value, Mapping):
            text += f": {_cut(repr(value[item]), 40)}"
        shown.append(text)
    return f"{len(value)} items: {_cut(', '.join(shown), _MAX_VALUE)}"


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"
