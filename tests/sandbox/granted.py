"""What tests grant to sessions: a way out and a few tools."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.domain.errors import ToolError
from pythonic_assistant.domain.tool import ToolSpec

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nnot a real one\n-----END CERTIFICATE-----\n"


@dataclass
class Greeter:
    """Answers whoever connects with its own name."""

    hosts: Sequence[str] = ("example.com",)
    certificate: str = CERTIFICATE
    serving: bool = False
    served: int = 0

    @asynccontextmanager
    async def serve(self, listener: socket.socket) -> AsyncGenerator[None, None]:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.served += 1
            writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            writer.close()

        async with await asyncio.start_server(greet, sock=listener):
            self.serving = True
            try:
                yield
            finally:
                self.serving = False


@dataclass
class Box:
    """A few tools."""

    specs: Sequence[ToolSpec] = (
        ToolSpec(
            name="add",
            description="Add two numbers.",
            parameters={
                "type": "object",
                "properties": {
                    "a": {"type": "integer", "description": "the first"},
                    "b": {"type": ["number", "null"]},
                    "how": {"enum": ["fast", "slow"], "default": "fast"},
                    "from": {"type": "string"},
                },
                "required": ["a", "b"],
            },
            returns="the sum",
        ),
        ToolSpec(name="wait", description="Wait long.", parameters={"type": "object"}),
        ToolSpec(name="large", description="Answer a lot.", parameters={"type": "object"}),
        ToolSpec(name="broken", description="Break.", parameters={"type": "object"}),
    )
    calls: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list[tuple[str, Mapping[str, Any]]])
    running: int = 0
    most_running: int = 0
    cancelled: int = 0

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        self.calls.append((name, arguments))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            match name:
                case "add":
                    if not isinstance(arguments["a"], int):
                        raise ToolError("a must be an integer")
                    await asyncio.sleep(0.01 if arguments.get("how") == "slow" else 0)
                    return {"sum": arguments["a"] + arguments["b"], "text": "ü", "list": [None, True]}
                case "wait":
                    await asyncio.sleep(60)
                case "large":
                    return "x" * (arguments["bytes"])
                case _:
                    raise RuntimeError("a mistake")
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


async def value(session: NamespaceSession, code: str, timeout: float = 5) -> str:
    """Run code that must succeed; return its value."""
    result = await session.execute(code, timeout=timeout)
    assert result.outcome == "ok", result.error
    return result.value
