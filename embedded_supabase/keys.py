"""Keys of one embedded Supabase, made once and kept in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from pythonic_assistant.domain.errors import ConfigurationError

LOCAL_USER_EMAIL = "local@example.com"
"""Address of the person at this machine: reserved by RFC 2606, so no mail can ever reach a stranger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalUser:
    """The person at this machine, an ordinary account of Supabase Auth.

    Attributes:
        email: what to sign in with.
        password: random, 43 characters of base64url.
    """

    email: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What proves a right to the embedded Supabase.

    Attributes:
        publishable_key: may be known to a page; the role `anon` until somebody signs in.
        secret_key: the role `service_role`, which row-level security does not bind.
        jwt_secret: signs people's access tokens (HS256).
        local_user: the account of the person at this machine.
    """

    publishable_key: str
    secret_key: str
    jwt_secret: str
    local_user: LocalUser


def new_keys() -> Keys:
    """Make fresh keys, with 256 bits of chance each."""
    return Keys(
        publishable_key=f"sb_publishable_{secrets.token_urlsafe(32)}",
        secret_key=f"sb_secret_{secrets.token_urlsafe(32)}",
        jwt_secret=secrets.token_urlsafe(48),
        local_user=LocalUser(email=LOCAL_USER_EMAIL, password=secrets.token_urlsafe(32)),
    )


def load_or_create(path: Path) -> Keys:
    """Read the keys, or make and keep new ones (mode 0600, written whole or not at all).

    Raises:
        ConfigurationError: the file is there but is not a keys file, or others may read it.
    """
    if not path.exists():
        keys = new_keys()
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(keys), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        return keys
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(f"Other people may read the keys in {path}: run `chmod 600 {path}`.")
    try:
        content = cast(dict[str, Any], json.loads(path.read_text()))
        person = cast(dict[str, str], content.pop("local_user"))
        return Keys(**content, local_user=LocalUser(**person))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} is not a keys file: restore it from a backup, or move the whole state folder away."
        ) from error
