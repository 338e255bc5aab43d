"""What generated code writes: drained as it comes, decoded, cut at a limit."""

from __future__ import annotations

import asyncio
import codecs
import os
from typing import Literal

from pythonic_assistant.ports import OnOutput

Stream = Literal["stdout", "stderr"]

_CHUNK = 1 << 16
_LAST_READS = 2
# Once the limit is reached everything is dropped; reading in turns keeps a flood from taking our CPU.
_FLOOD_PAUSE_SECONDS = 0.005


class Output:
    """Reads the two pipes of a session during one execution.

    What background threads or processes write between executions counts to the next one.

    Args:
        pipes: non-blocking read ends.
        limit: bytes of both streams together.
        on_output: is given every piece of text, on the event loop.
    """

    def __init__(self, pipes: dict[Stream, int], limit: int, on_output: OnOutput | None) -> None:
        self._pipes = pipes
        self._room = limit
        self._on_output = on_output
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in pipes}
        self._texts: dict[Stream, list[str]] = {name: [] for name in pipes}
        self._loop = asyncio.get_running_loop()
        self._paused: dict[Stream, asyncio.TimerHandle] = {}
        self.truncated = False

    def __enter__(self) -> Output:
        """Begin to read."""
        for name in self._pipes:
            self._watch(name)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop to read, without losing what is already in the pipes."""
        for timer in self._paused.values():
            timer.cancel()
        for name, pipe in self._pipes.items():
            self._loop.remove_reader(pipe)
            # A pipe holds 64 KiB: an end is certain even if somebody goes on writing.
            for _ in range(_LAST_READS):
                if not self._read(name):
                    break
            self._emit(name, b"", final=True)

    def text(self, name: Stream) -> str:
        """Return what the stream wrote, cut at the limit."""
        return "".join(self._texts[name])

    def _watch(self, name: Stream) -> None:
        self._paused.pop(name, None)
        self._loop.add_reader(self._pipes[name], self._on_readable, name)

    def _on_readable(self, name: Stream) -> None:
        if not self._read(name):
            self._loop.remove_reader(self._pipes[name])
        elif self.truncated:
            self._loop.remove_reader(self._pipes[name])
            self._paused[name] = self._loop.call_later(_FLOOD_PAUSE_SECONDS, self._watch, name)

    def _read(self, name: Stream) -> bool:
        """Read once; return whether there may be more."""
        try:
            data = os.read(self._pipes[name], _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            return False
        if len(data) > self._room:
            self.truncated = True
        self._emit(name, data[: self._room], final=False)
        self._room = max(0, self._room - len(data))
        return True

    def _emit(self, name: Stream, data: bytes, *, final: bool) -> None:
        text = self._decoders[name].decode(data, final)
        if text:
            self._texts[name].append(text)
            if self._on_output is not None:
                self._on_output(name, text)
