"""Stand-ins for the ports, for tests of the loop: a model that follows a script, a sandbox without isolation.

The sandbox here runs code in the test's own process. It is for code that the tests themselves hold.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Reply
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.ports import NO_ACCESS, Access, ModelReply, ModelRequest
from tests.plain_session import PlainSession

DEFAULT_LIMITS = SandboxLimits()
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


class OpenSession(PlainSession):
    """A session whose variable SESSION counts how many there were before it."""


@dataclass
class OpenSandbox:
    """Makes `OpenSession`s and remembers them: those of the work, and those that only look."""

    folder: Path
    tier: str = "none"
    sessions: list[OpenSession] = field(default_factory=list)
    looking: list[OpenSession] = field(default_factory=list)
    packages: frozenset[str] = frozenset({"pandas", "numpy", "scipy", "matplotlib", "requests"})

    async def importable(self) -> frozenset[str]:
        return frozenset(sys.stdlib_module_names) | self.packages

    async def open(
        self,
        *,
        inputs: Sequence[InputFile] = (),
        limits: SandboxLimits = DEFAULT_LIMITS,
        seed: int | None = None,
        access: Access = NO_ACCESS,
        folder: Path | None = None,
    ) -> OpenSession:
        if folder is None:
            place = self.folder / f"session-{len(self.sessions)}"
            (place / "inputs").mkdir(parents=True)
        else:
            place = folder
            assert (place / "inputs").is_dir(), "the port wants a folder for the inputs"
        for file in inputs:
            (place / "inputs" / file.name).write_bytes(file.path.read_bytes())
        many = self.sessions if folder is None else self.looking
        session = OpenSession(
            place,
            seed=seed,
            access=access,
            read_only=folder is not None,
            names={"SESSION": len(many)} if folder is None else None,
        )
        session.limits = limits
        many.append(session)
        return session
