"""A session's place in its control group.

Only the code's process is put in, and waits for that before it runs anything; the session is told to be
ready meanwhile, because it can take 8 ms (see `attendant`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from . import attendant, cgroup


@dataclass(slots=True, kw_only=True)
class Membership:
    """For session init; the code's process closes it with `leave`.

    Args:
        place: descriptor of the socket to the attendant; the null device without one.
        grouped: whether there is an attendant.
        limits: of the session.
    """

    place: int
    grouped: bool
    limits: Mapping[str, int]
    _answer: socket.socket | None = None
    _counter: int | None = None
    _told: int = 0

    def ask(self, code: int) -> None:
        """Ask for the code's process, given by its descriptor, to be put into a group."""
        if self.grouped:
            with socket.socket(fileno=self.place) as channel:
                self._answer = attendant.ask(channel, code, self.limits)
        else:
            os.close(self.place)

    def wait(self) -> None:
        """Wait until it is in.

        Raises:
            OSError: it cannot be put in.
        """
        if self._answer is not None:
            with self._answer:
                self._counter = attendant.answer(self._answer)
            self._answer = None

    def leave(self) -> None:
        """Close what is not for the code."""
        os.close(self.place)

    def out_of_memory(self) -> bool:
        """Whether the kernel ended a process of the group for want of memory since this was last asked."""
        if self._counter is None:
            return False
        deaths = cgroup.deaths(self._counter)
        before, self._told = self._told, deaths
        return deaths > before
