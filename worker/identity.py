"""Who a worker is: the same after a restart, so that it takes back at once what its former process held."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4


@contextmanager
def identity(home: Path) -> Generator[UUID]:
    """Hold this worker's id while the process lives.

    The id stays in the state folder. A second worker that shares the folder gets an id of its own for its
    lifetime: only one process at a time may act, and recover, under the kept one.

    Args:
        home: the worker's folder; has to exist.
    """
    with (home / "identity").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield uuid4()
            return
        file.seek(0)
        kept = _read(file.read())
        if kept is None:
            kept = uuid4()
            file.truncate(0)
            file.write(str(kept))
            file.flush()
        yield kept


def _read(text: str) -> UUID | None:
    try:
        return UUID(text.strip())
    except ValueError:
        return None
