"""A process group that ends with its owner, however that ends.

`--die-with-parent` takes effect only when bwrap has come to it (prctl(2), PR_SET_PDEATHSIG), and again in
the process that it clones, which first waits on an eventfd that nobody else would ever write to. Killed
in between, an owner left such processes behind for good.
"""

from __future__ import annotations

import os
import signal
import subprocess
from types import TracebackType
from typing import Self

# `read` returns at the end of the pipe. That comes when the owner is gone, and with it every child that
# the owner has forked and that has not yet become another programme: by then each is in the group.
_KEEPER = ("/bin/sh", "-c", "trap '' HUP INT TERM; read -r _; kill -KILL 0")


class ProcessGroup:
    """Owns a small process which leads the group, and kills it when it hears of nobody any more.

    Use as a context manager. Whoever is in the group at the end is killed.
    """

    def __init__(self) -> None:
        self._leader: subprocess.Popen[bytes] | None = None

    def number(self) -> int:
        """Return the group for a child to be started in, see `subprocess.Popen`.

        Raises:
            OSError: it cannot be made.
        """
        if self._leader is None or self._leader.poll() is not None:
            self.close()
            self._leader = subprocess.Popen(
                _KEEPER,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                process_group=0,
            )
        return self._leader.pid

    def __enter__(self) -> Self:
        """Use as a context manager: leaving closes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Kill whoever is in the group. May be called twice."""
        leader, self._leader = self._leader, None
        if leader is None:
            return
        if leader.poll() is None:  # else the number may be another's by now
            os.killpg(leader.pid, signal.SIGKILL)
            leader.wait()
        assert leader.stdin is not None
        leader.stdin.close()
