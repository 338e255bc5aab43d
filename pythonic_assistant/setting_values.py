"""Reads and checks single values of settings; the sentences are for the person who wrote the values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import urlsplit

from pythonic_assistant.domain.errors import ConfigurationError

_Choice = TypeVar("_Choice", bound=str)
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,49}")
_MOST_LABELS: Final = 8
"""As many as the table of workers takes, and as many as a task can ask for."""


class Secret:
    """A value that is never shown: `repr`, `str` and formatting are masked; `reveal` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('********')"

    def __str__(self) -> str:
        return "********"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def secret(given: Mapping[str, str], name: str) -> Secret | None:
    """Read a secret; a key must be one printable word."""
    value = given.get(name)
    if value is None:
        return None
    # A line break or a blank in a key is a mistake of copying, and would break the request's headers.
    if name.endswith("_KEY") and not (value.isascii() and value.isprintable() and " " not in value):
        raise ConfigurationError(
            f"{name} holds blanks or characters that no key has: copy the key again, on one line."
        )
    return Secret(value)


def url(given: Mapping[str, str], name: str, schemes: Sequence[str], example: str) -> str | None:
    """Read an address, without its last slash."""
    value = given.get(name)
    if value is None:
        return None
    if not _is_url(value, schemes):
        raise ConfigurationError(f"{name} is {shown(value)}, which is no address: write it like {example}.")
    return value.rstrip("/")


def database_url(given: Mapping[str, str]) -> Secret | None:
    """Read the address of a PostgreSQL database, which holds a password."""
    value = given.get("SUPABASE_DB_URL")
    if value is None:
        return None
    by_socket = re.fullmatch(r"postgres(ql)?://([^/@\s]*@)?/\S*[?&]host=/\S+", value)
    if not by_socket and not _is_url(value, ("postgres", "postgresql")):
        raise ConfigurationError(
            "SUPABASE_DB_URL is no address of a PostgreSQL database: write it like "
            "postgresql://postgres:password@db.abcdefgh.supabase.co:5432/postgres."
        )
    return Secret(value)


def _is_url(value: str, schemes: Sequence[str]) -> bool:
    try:
        parts = urlsplit(value)
        _ = parts.port  # reading it checks it
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and not re.search(r"\s", value)


def shown(url: str) -> str:
    """An address without the password that it may carry."""
    return repr(re.sub(r"//[^/@]*@", "//********@", url))


def whole_number(given: Mapping[str, str], name: str, default: int, largest: int) -> int:
    """Read a whole number from 1 to `largest`."""
    value = given.get(name)
    if value is None:
        return default
    if not (re.fullmatch(r"[0-9]{1,9}", value) and 1 <= int(value) <= largest):
        raise ConfigurationError(f"{name} is {value!r}: write a whole number from 1 to {largest}.")
    return int(value)


def choice(given: Mapping[str, str], name: str, choices: Sequence[_Choice]) -> _Choice:
    """Read one of a few words; the first is the default."""
    value = given.get(name, choices[0])
    for choice in choices:
        if choice == value:
            return choice
    raise ConfigurationError(f"{name} is {value!r}: write one of {', '.join(choices)}.")


def exact_choice(given: Mapping[str, str], name: str, choices: Sequence[_Choice], *, exact: str) -> _Choice:
    """Read one of a few words, of which one counts only as it stands: it must not come by a slip."""
    value = given.get(name, "")
    if value != exact and value.strip().lower() == exact:
        raise ConfigurationError(
            f"{name} is {value!r}: to run generated code without any walls, write exactly {exact}, in small "
            f"letters and without blanks; better, write {choices[0]}."
        )
    trimmed = {name: value.strip()} if value.strip() else {}
    return choice(trimmed, name, choices)


def labels(given: Mapping[str, str]) -> tuple[str, ...]:
    """Read names with commas between them, each once, in their order."""
    value = given.get("PYTHONIC_LABELS", "")
    found = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    for label in found:
        if not _LABEL.fullmatch(label):
            raise ConfigurationError(
                f"PYTHONIC_LABELS is {value!r}: write names of small letters, digits, '_', '.' and '-' with "
                "commas between them, such as gpu,berlin; at most 50 characters each."
            )
    if len(found) > _MOST_LABELS:
        raise ConfigurationError(
            f"PYTHONIC_LABELS holds {len(found)} names: write at most {_MOST_LABELS} of them."
        )
    return found


def email(given: Mapping[str, str]) -> str | None:
    """Read an e-mail address."""
    value = given.get("PYTHONIC_EMAIL")
    if value is not None and not re.fullmatch(r"[^@\s]+@[^@\s]+", value):
        raise ConfigurationError(
            f"PYTHONIC_EMAIL is {value!r}: write an e-mail address, such as me@example.org."
        )
    return value


def smtp_url(given: Mapping[str, str]) -> Secret | None:
    """Read the address of a mail server, which may hold a password."""
    value = given.get("PYTHONIC_SMTP_URL")
    if value is None:
        return None
    if not _is_url(value, ("smtp", "smtps")):
        raise ConfigurationError(
            "PYTHONIC_SMTP_URL is no address of a mail server: write it like "
            "smtps://user:password@mail.example.org."
        )
    return Secret(value)
