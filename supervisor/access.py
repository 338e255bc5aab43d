"""Finds out how the Supabase in use is reached: from settings, from an announcement, or from kept keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pythonic_assistant.domain.errors import PermanentError
from pythonic_assistant.settings import Settings
from supervisor.environments import Access
from supervisor.ports import HOST


def of_settings(settings: Settings) -> Access | None:
    """Access to a hosted or self-hosted Supabase; None when the embedded one is to be used."""
    url, publishable, secret = (
        settings.supabase_url,
        settings.supabase_publishable_key,
        settings.supabase_secret_key,
    )
    if url is None or publishable is None or secret is None:
        return None
    database = settings.supabase_db_url
    return Access(
        url=url,
        publishable_key=publishable.reveal(),
        secret_key=secret.reveal(),
        database_url=database.reveal() if database is not None else None,
    )


def announced(words: Mapping[str, Any]) -> Access:
    """Access to the embedded Supabase, as it announces itself: its addresses, and the file with its keys.

    Raises:
        PermanentError: the announcement or the file lacks something.
    """
    try:
        access = _access(Path(words["keys_file"]), str(words["url"]))
        return replace(access, database_url=str(words["database_url"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PermanentError(
            f"The database announced itself, but its keys cannot be read ({error})."
        ) from error


def kept(keys_file: Path, port: int) -> Access | None:
    """Access as it was at the last start, so that the page need not wait; None if there was none."""
    try:
        return _access(keys_file, f"http://{HOST}:{port}")
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the database itself says what is wrong with its keys


def _access(keys_file: Path, url: str) -> Access:
    keys = cast("dict[str, Any]", json.loads(keys_file.read_text(encoding="utf-8")))
    person = keys["local_user"]
    return Access(
        url=url,
        publishable_key=str(keys["publishable_key"]),
        secret_key=str(keys["secret_key"]),
        local_user=(str(person["email"]), str(person["password"])),
    )
