"""The Python that runs generated code: one namespace, one request at a time.

Everything here is in reach of the code that it runs. The host believes none of it: it reads bounded
messages, and they can only misinform about this very session.
"""

from __future__ import annotations

import builtins
import os
import socket
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from . import describe, frames, prepare, running, saved, variables
from .checkpoint import Checkpoints
from .interrupts import Interrupts
from .tools import Tools

_MAX_VARIABLES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a session begins with.

    Attributes:
        seed: of the random numbers, not negative; None for one of the operating system.
        environment: variables beside those that every session has.
        tools: name, description, parameters and returns of each granted tool.
        shown: whether the current folder is one that is only shown. Nothing is imported from it: what it
            holds may bear the name of a module that a library imports late.
    """

    seed: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    tools: Sequence[Mapping[str, Any]] = ()
    shown: bool = False


def main(control: socket.socket, keeper: socket.socket, setup: Setup) -> NoReturn:
    """Answer requests until the host closes the channel; never returns.

    Args:
        control: to the host.
        keeper: to session init, for checkpoints.
        setup: what there is at first.
    """
    prepare.prepare(setup.environment, own_modules=not setup.shown)
    prepare.seed(setup.seed)
    _Repl(control, keeper, setup.tools).serve()


class _Repl:
    def __init__(
        self, control: socket.socket, keeper: socket.socket, tools: Sequence[Mapping[str, Any]]
    ) -> None:
        module = types.ModuleType("__main__")
        module.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = module
        self._namespace = module.__dict__
        self._interrupts = Interrupts()
        self._control = control
        self._tools = Tools(tools, control, self._interrupts)
        self._namespace.update(self._tools.functions)
        saved.install()
        self._checkpoints = Checkpoints(keeper, control)
        self._process = os.getpid()
        self._step = 0
        self._failed = False

    def serve(self) -> NoReturn:
        while True:
            try:
                request, _ = frames.receive(self._control)
            except (EOFError, OSError):
                os._exit(0)
            if "call" in request:  # the answer to a tool's call that was interrupted
                continue
            answer = self._answer(request)
            if os.getpid() != self._process:  # the code forked, and its child came back here
                os._exit(0)
            if answer is not None:
                frames.send(self._control, {**answer, "id": request["id"]})

    def _answer(self, request: Mapping[str, Any]) -> dict[str, object] | None:
        """Do what is asked; None in a process that has just become the kept one, and was not asked."""
        match request["op"]:
            case "execute":
                if not self._begin(checkpoint=request.get("checkpoint") is True):
                    return None
                return self._execute(str(request["code"]))
            case "save":
                return variables.save(self._public(), self._interrupts)
            case "clear":
                variables.clear()
                return {"ok": True}
            case "restore":
                return {"ok": True, "names": variables.restore(self._namespace)}
            case _:
                return _variables(self._public(), self._interrupts)

    def _begin(self, *, checkpoint: bool) -> bool:
        """Keep or let go the state before the next code; False in the kept process."""
        if checkpoint:
            if self._checkpoints.take() == "successor":
                self._process = os.getpid()
                self._tools.settle()
                return False
        elif self._checkpoints.kept and not self._failed:
            self._checkpoints.drop()
        return True

    def _execute(self, code: str) -> dict[str, object]:
        self._step += 1
        answer = running.execute(self._namespace, code, f"<step {self._step}>", self._interrupts, self._tools)
        self._failed = answer["ok"] is not True
        return answer

    def _public(self) -> dict[str, Any]:
        """Return the variables that are the code's own."""
        given = self._tools.functions
        return {
            name: value
            for name, value in list(self._namespace.items())
            if isinstance(name, str)  # pyright: ignore[reportUnnecessaryIsInstance]  (the code may break it)
            and not name.startswith("_")
            and not isinstance(value, types.ModuleType)
            and not (name in given and given[name] is value)
        }


def _variables(public: Mapping[str, Any], interrupts: Interrupts) -> dict[str, object]:
    found: list[dict[str, str]] = []
    interrupts.seen = False
    for name, value in public.items():
        if len(found) == _MAX_VARIABLES:
            break
        kind, text = "object", "(not described: time was up)"
        if not interrupts.seen:
            try:
                interrupts.begin()
                kind = describe.type_name(value)
                text = describe.summary(value)
            except BaseException as error:  # noqa: BLE001  (a hostile or broken __repr__)
                text = f"(cannot be described: {type(error).__name__})"
            finally:
                interrupts.end()
        found.append({"name": name, "type": kind, "summary": text})
    return {"ok": True, "variables": found}
