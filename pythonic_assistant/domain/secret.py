"""A credential of a person's, as the worker holds it for one attempt."""

from __future__ import annotations

import secrets
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundSecret:
    """A secret with the hosts that may see it.

    Attributes:
        name: of the environment variable, such as GITHUB_TOKEN.
        value: never shown.
        hosts: the only ones that get the value; `read_host` has passed each.
        placeholder: what code sees instead; of this attempt alone.
        raw: code gets the value itself, by the owner's choice, for protocols that no proxy can help.
    """

    name: str
    value: str
    hosts: tuple[str, ...]
    placeholder: str
    raw: bool = False

    def __repr__(self) -> str:
        return f"BoundSecret(name={self.name!r}, hosts={self.hosts!r}, value=…)"


def placeholder_of(name: str) -> str:
    """Draw a placeholder: only letters, digits and `_`, so that no encoding of URLs or JSON changes it."""
    return f"PLACEHOLDER_{name}_{secrets.token_hex(8)}"


def is_placeholder(name: str, value: str) -> bool:
    """Whether a value is one that `placeholder_of` drew for the name."""
    return value.startswith(f"PLACEHOLDER_{name}_")
