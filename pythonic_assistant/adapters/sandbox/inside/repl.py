"""The Python that runs generated code: one namespace, one request at a time.

Everything here is in reach of the code that it runs. The host believes none of it: it reads bounded
messages, and they can only misinform about this very session.
"""

from __future__ import annotations

import ast
import builtins
import io
import linecache
import os
import random
import signal
import socket
import sys
import traceback
import types
from collections.abc import Mapping
from typing import Any, NoReturn

from . import describe, frames

_MAX_VALUE = 20_000
_MAX_ERROR = 20_000
_MAX_VARIABLES = 200
_ENVIRONMENT = {
    "HOME": "/scratch",
    "LANG": "C.UTF-8",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", "/tmp/.matplotlib"),  # noqa: S108
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TMPDIR": "/tmp",  # noqa: S108
}


class _Interrupts:
    """Turns the host's SIGINT into KeyboardInterrupt, but only while generated code is running."""

    def __init__(self) -> None:
        self.armed = False
        self.seen = False
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: types.FrameType | None) -> None:  # noqa: ARG002
        if self.armed:
            self.seen = True
            raise KeyboardInterrupt

    def begin(self) -> None:
        # Code of an earlier step may have put a handler of its own.
        signal.signal(signal.SIGINT, self._handle)
        self.seen, self.armed = False, True

    def end(self) -> None:
        self.armed = False


def main(control: socket.socket, seed: int | None, environment: Mapping[str, str] = _ENVIRONMENT) -> NoReturn:
    """Answer requests until the host closes the channel; never returns.

    Args:
        control: to the host.
        seed: of the random numbers, not negative; None for one of the operating system.
        environment: takes the place of the usual variables of the same names.
    """
    _prepare_process(environment)
    _seed(seed)
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    interrupts = _Interrupts()
    process = os.getpid()
    step = 0
    while True:
        try:
            request, _ = frames.receive(control)
        except (EOFError, OSError):
            os._exit(0)
        if request["op"] == "execute":
            step += 1
            answer = _execute(module.__dict__, str(request["code"]), f"<step {step}>", interrupts)
        else:
            answer = _variables(module.__dict__, interrupts)
        if os.getpid() != process:  # the code forked, and its child came back here
            os._exit(0)
        frames.send(control, {**answer, "id": request["id"]})


def _prepare_process(environment: Mapping[str, str]) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update({**_ENVIRONMENT, **environment})
    sys.argv = [""]
    sys.path.insert(0, "")  # modules that the code writes into its folder
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    sys.stdout, sys.stderr = _text_stream(1), _text_stream(2)


def _seed(seed: int | None) -> None:
    """Seed `random` and numpy. Every session is a copy of one zygote, and would draw the same numbers."""
    source = random.Random(os.urandom(32) if seed is None else seed)  # noqa: S311  (not for secrets)
    random.seed(source.getrandbits(256))
    if (numpy := sys.modules.get("numpy")) is None:
        return
    numpy.random.seed([source.getrandbits(32) for _ in range(8)])
    if seed is not None:
        # Where default_rng() takes its entropy from when the code gives none.
        numpy.random.bit_generator.randbits = source.getrandbits


def _text_stream(descriptor: int) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", errors="replace", line_buffering=True)


def _execute(namespace: dict[str, Any], code: str, name: str, interrupts: _Interrupts) -> dict[str, object]:
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    answer: dict[str, object] = {"ok": True, "value": "", "error": ""}
    try:
        try:
            interrupts.begin()
            value = _run(namespace, code, name)
            if value is not None:
                answer["value"] = _cut(repr(value), _MAX_VALUE)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            interrupts.end()
    except SystemExit as leaving:
        answer["ok"] = False
        # Anything can be given to exit(), also something with a hostile __repr__.
        given = leaving.code if type(leaving.code) in (int, str, type(None)) else "…"
        answer["error"] = f"SystemExit: {given!r}\nThe code left with exit(); a step shall just end."
    except BaseException as error:  # noqa: BLE001  (whatever the code raised is its result)
        answer["ok"] = False
        answer["error"] = _cut(_explain(error), _MAX_ERROR)
    answer["interrupted"] = interrupts.seen
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception as error:  # noqa: BLE001  (the code may have closed or replaced it)
            answer["error"] = answer["error"] or f"{type(error).__name__}: output could not be written"
    return answer


def _run(namespace: dict[str, Any], code: str, name: str) -> object:
    """Run the code; return the value of its last line where that is an expression."""
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    # dont_inherit: the __future__ imports of this module are not the code's
    exec(compile(tree, name, "exec", dont_inherit=True), namespace)  # noqa: S102
    if not isinstance(last, ast.Expr):
        return None
    expression = compile(ast.Expression(last.value), name, "eval", dont_inherit=True)
    return eval(expression, namespace)  # noqa: S307


def _explain(error: BaseException) -> str:
    """Return the traceback without the frames of this module."""
    try:
        report = traceback.TracebackException.from_exception(error, compact=True)
        _strip(report, set())
        return "".join(report.format())
    except BaseException as trouble:  # noqa: BLE001  (a hostile or endless exception)
        return f"{type(error).__name__} (its traceback cannot be shown: {type(trouble).__name__})"


def _strip(report: traceback.TracebackException, seen: set[int]) -> None:
    if id(report) in seen:
        return
    seen.add(id(report))
    own = [line for line in report.stack if line.filename not in (__file__, ast.__file__)]
    report.stack = traceback.StackSummary.from_list(own)
    inner = getattr(report, "exceptions", None) or ()
    for other in (report.__cause__, report.__context__, *inner):
        if other is not None:
            _strip(other, seen)


def _variables(namespace: Mapping[str, Any], interrupts: _Interrupts) -> dict[str, object]:
    found: list[dict[str, str]] = []
    interrupts.seen = False
    for name, value in list(namespace.items()):
        if name.startswith("_") or isinstance(value, types.ModuleType):
            continue
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


def _cut(text: str, size: int) -> str:
    """Keep beginning and end: an error's end is what matters."""
    if len(text) <= size:
        return text
    half = size // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
