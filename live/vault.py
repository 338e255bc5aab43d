"""An encrypted file for the sessions, so that people stay signed in when the page is restarted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken


class Vault:
    """Keeps one JSON value in `<folder>/sessions`, encrypted with `<folder>/sessions.key`.

    Both files are readable by their owner alone. The encryption guards copies of the data file (backups,
    synchronised folders); whoever reads the whole folder as its owner can read the sessions.
    """

    def __init__(self, folder: Path) -> None:
        self._data = folder / "sessions"
        self._key = folder / "sessions.key"
        self._folder = folder

    def load(self) -> Any:
        """The value that was saved last; None when there is none, or none that this key can read."""
        try:
            return json.loads(self._cipher().decrypt(self._data.read_bytes()))
        except (FileNotFoundError, InvalidToken, ValueError):
            return None

    def save(self, value: Any) -> None:
        """Replace the value in one step.

        Raises:
            OSError: the folder cannot be written.
        """
        content = self._cipher().encrypt(json.dumps(value).encode())
        draft = self._data.with_suffix(".new")
        _write_private(draft, content)
        draft.replace(self._data)

    def _cipher(self) -> Fernet:
        try:
            return Fernet(self._key.read_bytes())
        except (FileNotFoundError, ValueError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = Fernet.generate_key()
            _write_private(self._key, key)
            return Fernet(key)


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o600)
