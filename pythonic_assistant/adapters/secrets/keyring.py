"""A worker's own key: made at its first start and kept in a file, or given by a setting."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pythonic_assistant.adapters.secrets.vault import generate_key, key_id_of, public_key_of, unseal
from pythonic_assistant.domain.errors import ConfigurationError, InvalidInputError

SETTING = "PYTHONIC_SECRETS_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerKey:
    """The key that opens secrets. `repr` shows the public half alone."""

    private_key: str
    public_key: str
    key_id: str

    def open(self, ciphertext: str) -> str:
        """As `vault.unseal`."""
        return unseal(self.private_key, ciphertext)

    def __repr__(self) -> str:
        return f"WorkerKey({self.key_id!r}, private_key=…)"


def key_of(private_key: str) -> WorkerKey:
    """Return the key with its public half.

    Raises:
        InvalidInputError: it is no key.
    """
    public_key = public_key_of(private_key)
    return WorkerKey(private_key=private_key, public_key=public_key, key_id=key_id_of(public_key))


def worker_key(file: Path, given: str | None = None) -> WorkerKey:
    """Return the key that a setting gives, or else that of the file, which is made when it is not there.

    Workers that share a folder start at the same moment and get the same key: the first one's link stays.

    Args:
        file: readable by its owner alone; its folder has to exist.

    Raises:
        ConfigurationError: the setting or the file holds no key, or others may read the file.
    """
    if given is not None:
        try:
            return key_of(given)
        except InvalidInputError as error:
            raise ConfigurationError(
                f"{SETTING} is no key: {error} Copy the content of a worker's secrets.key."
            ) from error
    if not file.exists():
        made = file.with_name(f".{file.name}.{uuid4().hex}")
        try:
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as writing:
                writing.write(generate_key() + "\n")
                writing.flush()
                os.fsync(writing.fileno())
            with suppress(FileExistsError):
                os.link(made, file)  # unlike a rename it does not replace what another worker just made
        finally:
            made.unlink(missing_ok=True)
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise ConfigurationError(
            f"Others may read {file}, which opens every secret: run `chmod 600` on it, and think of who had "
            "access."
        )
    try:
        return key_of(file.read_text().strip())
    except (InvalidInputError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{file} holds no key. Put it back from a copy; or delete it, and secrets have to be entered "
            "again."
        ) from error
