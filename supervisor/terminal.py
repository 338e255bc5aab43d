"""What the person at the terminal sees: few, whole lines; everything else is in the log files."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO


class Terminal:
    """Writes lines. A terminal that went away is no reason to stop, so failed writes are remembered only."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._gone = False

    def line(self, text: str = "") -> None:
        """Write one line at once."""
        if self._gone:
            return
        try:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except (OSError, ValueError):  # the pipe is broken, or the stream closed
            self._gone = True

    def step(self, number: int, of: int, text: str, seconds: float) -> None:
        """Report a finished step of the start: `[1/3] database ready (2.1 s)`."""
        self.line(f"[{number}/{of}] {text} ({seconds:.1f} s)")

    def happening(self, text: str) -> None:
        """Report something that happened later, with the time of day."""
        self.line(f"{time.strftime('%H:%M:%S')} {text}")

    def block(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write pairs of name and value under each other, with blank lines around them."""
        width = max(len(name) for name, _ in rows)
        self.line()
        for name, value in rows:
            self.line(f"  {name:<{width}}  {value}")
        self.line()
