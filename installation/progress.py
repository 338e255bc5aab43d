"""Says what is being done: on a terminal in one changing line, elsewhere in a few whole ones."""

from __future__ import annotations

import shutil
import sys
import time

QUIET_SECONDS = 15.0  # between two signs of life when the output is no terminal


class Progress:
    """Says what is being done: on a terminal in one changing line, elsewhere in a few whole ones."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self.live = sys.stderr.isatty()
        self.began = self.shown = time.monotonic()
        self.text = ""

    def begin(self, text: str) -> None:
        self.number += 1
        self.text = text
        self.began = self.shown = time.monotonic()
        self._write("")

    def tell(self, detail: str) -> None:
        now = time.monotonic()
        if now - self.shown >= (0.2 if self.live else QUIET_SECONDS):
            self.shown = now
            self._write(detail)

    def done(self) -> None:
        self._write("done", last=True)

    def _write(self, detail: str, last: bool = False) -> None:
        seconds = time.monotonic() - self.began
        line = f"[{self.number}/{self.total}] {self.text}"
        if detail:
            line += f": {detail} ({seconds:.0f} s)"
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[K" + line[:width] + ("\n" if last else ""))
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
