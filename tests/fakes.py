"""Stand-ins for the ports, for tests of the loop: a model that follows a script, a sandbox without isolation.

The sandbox here runs code in the test's own process. It is for code that the tests themselves hold.
"""

from __future__ import annotations

import ast
import hashlib
import io
import os
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Reply
from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile, InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.ports import ModelReply, ModelRequest

Answer = Callable[[ModelRequest], ModelReply] | ModelReply


def code(text: str) -> ModelReply:
    return ModelReply(
        reply=Reply(text="", code=text, call_id="call"),
        data=None,
        usage=Usage(turns=1, input_tokens=10, output_tokens=5),
    )


def words(text: str) -> ModelReply:
    return ModelReply(
        reply=Reply(text=text), data=None, usage=Usage(turns=1, input_tokens=10, output_tokens=5)
    )


def data(value: dict[str, Any]) -> ModelReply:
    return ModelReply(
        reply=Reply(text=str(value)), data=value, usage=Usage(turns=1, input_tokens=10, output_tokens=5)
    )


def plan(*ids: str) -> ModelReply:
    return data(
        {
            "steps": [
                {
                    "id": name,
                    "title": f"Step {name}",
                    "goal": f"reach {name}",
                    "proof": "it is there",
                    "depends_on": [],
                }
                for name in ids
            ]
        }
    )


def verification(answer: str, *checks: str) -> ModelReply:
    return data({"answer": answer, "checks": [{"claim": text, "code": text} for text in checks]})


@dataclass
class ListedModel:
    """Gives the listed replies in order and keeps the requests."""

    replies: list[Answer]
    requests: list[ModelRequest] = field(default_factory=list)
    name: str = "listed"
    scripted: bool = True

    async def respond(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        reply = self.replies.pop(0)
        return reply(request) if callable(reply) else reply


class OpenSession:
    """Runs code in this process, in a folder of the test's."""

    def __init__(self, folder: Path, opened: int, seed: int | None) -> None:
        self.folder, self.seed = folder, seed
        self.names: dict[str, Any] = {"SESSION": opened}
        self.closed = False
        self.skipped: tuple[str, ...] = ()
        self.ran: list[str] = []

    async def execute(self, code: str, *, timeout: float, on_output: Any = None) -> Execution:
        self.ran.append(code)
        if "DIE" in code:
            return Execution(outcome="died", error="The memory limit of 1 GiB was reached.")
        out, err, before = io.StringIO(), io.StringIO(), Path.cwd()
        os.chdir(self.folder)
        try:
            tree = ast.parse(code)
            with redirect_stdout(out), redirect_stderr(err):
                exec(compile(tree, "<step>", "exec"), self.names)
        except Exception:  # noqa: BLE001  whatever the code raises is its result
            return Execution(outcome="error", stdout=out.getvalue(), error=traceback.format_exc())
        finally:
            os.chdir(before)
        if on_output and out.getvalue():
            on_output("stdout", out.getvalue())
        return Execution(outcome="ok", stdout=out.getvalue(), stderr=err.getvalue())

    async def variables(self) -> tuple[VariableInfo, ...]:
        return tuple(
            VariableInfo(name=name, type=type(value).__name__, summary=repr(value)[:80])
            for name, value in self.names.items()
            if not name.startswith("_")
        )

    async def collect(self, into: Path) -> tuple[ArtifactFile, ...]:
        found: list[ArtifactFile] = []
        for path in sorted(self.folder.iterdir()):
            if path.is_file():
                copy = into / path.name
                copy.write_bytes(path.read_bytes())
                found.append(
                    ArtifactFile(
                        name=path.name,
                        path=copy,
                        media_type="text/plain",
                        bytes=path.stat().st_size,
                        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                    )
                )
        return tuple(found)

    async def close(self) -> None:
        self.closed = True


@dataclass
class OpenSandbox:
    """Makes `OpenSession`s and remembers them."""

    folder: Path
    tier: str = "none"
    sessions: list[OpenSession] = field(default_factory=list)

    async def open(
        self,
        *,
        inputs: Sequence[InputFile] = (),
        limits: SandboxLimits | None = None,
        seed: int | None = None,
    ) -> OpenSession:
        place = self.folder / f"session-{len(self.sessions)}"
        place.mkdir()
        (place / "inputs").mkdir()
        for file in inputs:
            (place / "inputs" / file.name).write_bytes(file.path.read_bytes())
        self.sessions.append(OpenSession(place, len(self.sessions), seed))
        return self.sessions[-1]
