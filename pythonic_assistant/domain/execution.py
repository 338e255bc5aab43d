"""What came of running a piece of generated code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ExecutionOutcome = Literal["ok", "error", "timeout", "died"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution. Failing code is a result.

    Attributes:
        outcome: "ok"; "error" (an exception; variables kept); "timeout" (interrupted; variables kept);
            "died" (the session is gone: killed by a limit, or by itself).
        stdout, stderr: what the code wrote, cut at the output limit.
        value: repr of the last expression, or "".
        error: the traceback without the frames of the sandbox, or the sentence that names the limit.
        seconds: wall time.
        truncated: whether stdout or stderr was cut.
        rolled_back: whether the variables are those before this execution; a session that died under a
            checkpoint goes on so.
    """

    outcome: ExecutionOutcome
    stdout: str = ""
    stderr: str = ""
    value: str = ""
    error: str = ""
    seconds: float = 0.0
    truncated: bool = False
    rolled_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableInfo:
    """A variable that is alive in a session, described for the model: `summary` is at most a few lines."""

    name: str
    type: str
    summary: str
