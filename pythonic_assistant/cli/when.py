"""Times that are typed in a terminal, in its own time zone unless another is named."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pythonic_assistant.adapters.schedules.cron import read_zone
from pythonic_assistant.adapters.schedules.words import read_when
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.schedule import Recurring

_ZONES = "/zoneinfo/"


def own_zone() -> ZoneInfo:
    """The zone of this machine, by `TZ` or /etc/localtime; UTC where neither names one."""
    named = os.environ.get("TZ", "").lstrip(":")
    if not named:
        _, found, named = str(Path("/etc/localtime").resolve()).rpartition(_ZONES)
        named = named if found else ""
    try:
        return read_zone(named.rpartition(_ZONES)[2])
    except InvalidInputError:
        return ZoneInfo("UTC")


def read_moment(words: str) -> datetime:
    """Return the one moment that words name.

    Raises:
        InvalidInputError: they are not understood, name the past, or times that come again.
    """
    when = read_when(words, datetime.now(UTC).astimezone(own_zone()))
    if isinstance(when, Recurring):
        raise InvalidInputError(
            f"{words!r} comes again and again: make a schedule of it, with `pythonic schedules add`."
        )
    return when.at
