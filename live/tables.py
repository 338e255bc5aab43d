"""Tables that tasks left, read for showing: small ones whole, larger ones from their beginning."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]  the project has no stubs of pandas

from live.rows import ArtifactRow
from pythonic_assistant.domain.errors import InvalidInputError

TABLE_BYTES = 5_000_000
_ROWS, _COLUMNS, _CELL = 500, 100, 500
_KEPT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The first rows of a table as a pandas DataFrame; `cut` tells whether there are more."""

    rows: Any
    cut: bool


_tables: OrderedDict[str, Table] = OrderedDict()
_lock = threading.Lock()


def table_of(artifact: ArtifactRow, content: Callable[[], bytes]) -> Table:
    """Read an artifact of comma or tab separated values, once for each content.

    Raises:
        InvalidInputError: it is not such a table.
    """
    with _lock:
        known = _tables.get(artifact.sha256)
        if known is not None:
            _tables.move_to_end(artifact.sha256)
            return known
    table = read_table(content(), tabs=artifact.name.lower().endswith(".tsv"))
    with _lock:
        _tables[artifact.sha256] = table
        while len(_tables) > _KEPT:
            _tables.popitem(last=False)
    return table


def read_table(content: bytes, *, tabs: bool) -> Table:
    """Read separated values.

    Raises:
        InvalidInputError: not text, or rows of different lengths.
    """
    try:
        frame: Any = pd.read_csv(  # pyright: ignore[reportUnknownMemberType]
            io.BytesIO(content), sep="\t" if tabs else ",", nrows=_ROWS + 1, encoding="utf-8-sig"
        )
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise InvalidInputError("it is not a table of separated values.") from error
    cut = len(frame) > _ROWS or frame.shape[1] > _COLUMNS
    frame = frame.iloc[:_ROWS, :_COLUMNS]
    for name in frame.select_dtypes(include=["object", "string"]).columns:
        frame[name] = frame[name].map(_short_cell)
    return Table(rows=frame, cut=cut)


def _short_cell(value: object) -> object:
    return value[:_CELL] if isinstance(value, str) else value
