"""`python -m tests.drill.worker`: the worker as it is, with one tool more, which tells the effect server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any

import httpx

from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.tools.registry import Reconciled, Tool
from worker.__main__ import main
from worker.tools import Context, register

URL = os.environ.pop("DRILL_EFFECTS_URL")


async def _send(_: Context, arguments: Mapping[str, Any], key: str) -> Any:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(f"{URL}/messages", json=dict(arguments), headers={"Idempotency-Key": key})
    return {"message_id": answer.json()["id"]}


async def _look(_: Context, __: Mapping[str, Any], key: str) -> Reconciled:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        rows = (await client.get(f"{URL}/done", params={"key": key})).json()
    return Reconciled(bool(rows), {"message_id": rows[0]["id"]} if rows else None)


register(
    Tool(
        spec=ToolSpec(
            name="send_message",
            description="Sends a message.",
            parameters={
                "type": "object",
                "properties": {"to": {"type": "string"}, "text": {"type": "string"}},
                "required": ["to", "text"],
            },
            risk="write",
            recipients=("to",),
        ),
        act=_send,
        reconcile=_look,
    )
)

if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
