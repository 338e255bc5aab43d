"""Granted tools as Python functions: a call is a message to the host, which runs the tool and answers.

Calls share the REPL's channel. So they are made while code runs and one at a time, and whoever waits for
an answer reads nothing that is meant for the REPL.
"""

from __future__ import annotations

import inspect
import os
import select
import socket
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import frames, signatures
from .interrupts import Interrupts

_LOCK_SECONDS = 0.1  # as long may an interrupt have to wait behind another thread's call


class ToolError(Exception):
    """A tool refused its arguments, or failed."""


class Tools:
    """The way to the host's tools.

    Args:
        specs: name, description, parameters and returns of each.
        control: to the host.
        interrupts: kept back while a message is under way.
    """

    def __init__(
        self, specs: Sequence[Mapping[str, Any]], control: socket.socket, interrupts: Interrupts
    ) -> None:
        self._control = control
        self._interrupts = interrupts
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if specs else -1
        self._number = 0
        self.functions = {str(spec["name"]): self._function(spec) for spec in specs}
        self.settle()
        if specs:
            module = types.ModuleType("tools", "The tools that this task may use.")
            module.__dict__.update(self.functions, ToolError=ToolError)
            ToolError.__module__ = "tools"
            sys.modules["tools"] = module

    def settle(self) -> None:
        """Begin anew, in the process that runs code from now on."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._caller: int | None = None
        self._open = False

    def begin(self) -> None:
        """Allow calls."""
        self._open = True

    def finish(self) -> None:
        """Wait for a call of another thread that is under way, and allow no more."""
        if self.functions and os.getpid() == self._process:
            self._exclusively(self._close)

    def abandon(self) -> None:
        """Allow no more calls, and end one that is under way: its answer will not be read."""
        if not self.functions or not self._open or os.getpid() != self._process:
            return
        self._open = False
        os.eventfd_write(self._wake, 1)
        with self._lock:
            os.eventfd_read(self._wake)

    def _close(self) -> None:
        self._open = False

    def _function(self, spec: Mapping[str, Any]) -> Callable[..., Any]:
        name = str(spec["name"])
        shape = signatures.signature(spec["parameters"])
        extra = next((p.name for p in shape.parameters.values() if p.kind is p.VAR_KEYWORD), None)

        def call(*given: Any, **named: Any) -> Any:
            arguments = dict(shape.bind(*given, **named).arguments)
            arguments.update(arguments.pop(extra, {}) if extra else {})
            return self._exclusively(lambda: self._call(name, arguments))

        call.__name__ = call.__qualname__ = name
        call.__module__ = "tools"
        call.__doc__ = signatures.document(str(spec["description"]), spec["parameters"], str(spec["returns"]))
        call.__annotations__ = {
            p.name: p.annotation
            for p in shape.parameters.values()
            if p.annotation is not inspect.Parameter.empty
        }
        call.__dict__["__signature__"] = shape
        return call

    def _exclusively(self, work: Callable[[], Any]) -> Any:
        if os.getpid() != self._process:
            raise RuntimeError(
                "Tools can be called in the session's own process only, not in one it started."
            )
        if self._caller == threading.get_ident():
            raise RuntimeError("This thread is in a tool's call already.")
        taken = False
        try:
            while not taken:
                with self._interrupts.held():
                    taken = self._lock.acquire(timeout=_LOCK_SECONDS)
            self._caller = threading.get_ident()
            if not self._open:
                raise RuntimeError("Tools can be called only while a step runs.")
            return work()
        finally:
            if taken:
                self._caller = None
                self._lock.release()

    def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        self._number += 1
        number = self._number
        try:
            data = frames.encode({"op": "tool", "call": number, "name": name, "arguments": arguments})
        except (TypeError, ValueError, RecursionError) as error:
            raise ToolError(f"{name}: the arguments must be JSON values: {error}") from None
        except frames.FrameError as error:
            raise ToolError(f"{name}: the arguments are too large: {error}") from None
        with self._interrupts.held():
            self._control.sendall(data)
        while (answer := self._answer()).get("call") != number:
            continue  # to a call that was interrupted
        if "error" in answer:
            raise ToolError(str(answer["error"]))
        return answer.get("value")

    def _answer(self) -> dict[str, Any]:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        poll.poll()
        if not self._open:
            raise RuntimeError("The step has ended before the tool answered.")
        # Waiting can be interrupted, reading cannot: the host sends an answer in one go.
        with self._interrupts.held():
            return frames.receive(self._control)[0]
