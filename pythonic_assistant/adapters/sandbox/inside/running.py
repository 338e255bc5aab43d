"""One piece of generated code: compiled, run, and what came of it put into words."""

from __future__ import annotations

import ast
import linecache
import sys
import traceback
from pathlib import Path
from typing import Any

from .interrupts import Interrupts
from .tools import Tools

MAX_VALUE = 20_000
MAX_ERROR = 20_000
_OWN_FOLDER = str(Path(__file__).parent)


def execute(
    namespace: dict[str, Any], code: str, name: str, interrupts: Interrupts, tools: Tools
) -> dict[str, object]:
    """Run code in a namespace; return the answer for the host."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    answer: dict[str, object] = {"ok": True, "value": "", "error": ""}
    try:
        try:
            interrupts.begin()
            tools.begin()
            value = _run(namespace, code, name)
            if value is not None:
                answer["value"] = cut(repr(value), MAX_VALUE)
            sys.stdout.flush()
            sys.stderr.flush()
            tools.finish()
        finally:
            interrupts.end()
            tools.abandon()
    except SystemExit as leaving:
        answer["ok"] = False
        # Anything can be given to exit(), also something with a hostile __repr__.
        given = leaving.code if type(leaving.code) in (int, str, type(None)) else "…"
        answer["error"] = f"SystemExit: {given!r}\nThe code left with exit(); a step shall just end."
    except BaseException as error:  # noqa: BLE001  (whatever the code raised is its result)
        answer["ok"] = False
        answer["error"] = cut(_explain(error), MAX_ERROR)
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
    own = [line for line in report.stack if not _is_own(line.filename)]
    report.stack = traceback.StackSummary.from_list(own)
    inner = getattr(report, "exceptions", None) or ()
    for other in (report.__cause__, report.__context__, *inner):
        if other is not None:
            _strip(other, seen)


def _is_own(file: str) -> bool:
    return file == ast.__file__ or file.startswith(_OWN_FOLDER)


def cut(text: str, size: int) -> str:
    """Keep beginning and end: an error's end is what matters."""
    if len(text) <= size:
        return text
    half = size // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
