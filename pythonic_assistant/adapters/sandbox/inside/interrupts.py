"""The host's SIGINT, turned into KeyboardInterrupt while generated code runs, and only then."""

from __future__ import annotations

import signal
import threading
import types
from collections.abc import Generator
from contextlib import contextmanager

_ALL = signal.valid_signals()


class Interrupts:
    """Arms and disarms the interrupt of the main thread."""

    def __init__(self) -> None:
        self.armed = False
        self.seen = False
        self._held = False
        self._waiting = False
        signal.signal(signal.SIGINT, self._handle)

    def begin(self) -> None:
        """Let the interrupt through from now on."""
        # Code of an earlier step may have put a handler of its own.
        signal.signal(signal.SIGINT, self._handle)
        self.seen, self.armed = False, True

    def end(self) -> None:
        """Ignore the interrupt from now on."""
        self.armed = False

    @contextmanager
    def held(self) -> Generator[None]:
        """Keep signals back until the block is left, so that no message is cut in two.

        Only the main thread of a process gets signals; in others this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._held = True
        # The code may handle signals of its own, too, and raise from there.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
        try:
            yield
        finally:
            self._held = False
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            waiting, self._waiting = self._waiting, False
            if waiting:
                self._handle(signal.SIGINT, None)

    def _handle(self, number: int, frame: types.FrameType | None) -> None:  # noqa: ARG002
        if not self.armed:
            return
        self.seen = True
        if self._held:
            self._waiting = True
            return
        raise KeyboardInterrupt
