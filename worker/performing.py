"""Tools that do more than read: written down, done once, and their outcome written down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from pythonic_assistant.domain.effect import (
    Action,
    Done,
    Go,
    Look,
    NotAllowed,
    Place,
    canonical,
    digest_of,
    nameless,
    without_placeholders,
)
from pythonic_assistant.domain.errors import AssistantError, ToolError, ToolRefusedError
from pythonic_assistant.domain.visible import visible
from pythonic_assistant.ports import EffectLedger
from pythonic_assistant.tools.registry import CALL_SECONDS, Tool, as_json

log = logging.getLogger(__name__)
C = TypeVar("C")

RECONCILE_SECONDS: Final = 30.0


class Performing(Generic[C]):
    """Performs the actions of one execution of code; see `tools.registry.Performer`."""

    def __init__(self, ledger: EffectLedger, place: Place, *, seconds: float = CALL_SECONDS) -> None:
        """Act in the name of `place`; after `seconds` an action's outcome is unknown."""
        self._ledger = ledger
        self._place = place
        self._seconds = seconds

    async def perform(self, tool: Tool[C], context: C, arguments: Mapping[str, Any]) -> Any:
        """As the port."""
        action = await _action(tool, context, arguments)
        begun = await self._ledger.begin(action, self._place, look=_look(tool, context, arguments))
        match begun:
            case NotAllowed():
                raise ToolRefusedError(begun.why)
            case Done():
                if begun.error is not None and not begun.succeeded:
                    raise ToolError(begun.error)
                return begun.result
            case Go():
                return await self._act(tool, context, arguments, begun)

    async def _act(self, tool: Tool[C], context: C, arguments: Mapping[str, Any], go: Go) -> Any:
        name = tool.spec.name
        assert tool.act is not None
        try:
            async with asyncio.timeout(self._seconds):
                value = await tool.act(context, arguments, go.idempotency_key)
        except ToolError as error:
            await self._ledger.end(go.key, "failed", error=str(error))
            raise
        except Exception as error:
            why = str(error) if isinstance(error, AssistantError) else type(error).__name__
            if isinstance(error, TimeoutError):
                why = f"it gave no answer within {self._seconds:g} seconds"
            elif not isinstance(error, AssistantError):
                log.exception("a tool broke", extra={"action": "tool_broke", "tool": name})
            told = f"It is not known whether the tool {name} did it: {why}."
            await self._ledger.end(go.key, "unknown", error=told)
            raise ToolError(told) from error
        try:
            value = as_json(value, f"The result of the tool {name}")
        except ToolError as error:
            # It has happened; only its result cannot be shown.
            await self._ledger.end(go.key, "succeeded", error=str(error))
            raise
        await self._ledger.end(go.key, "succeeded", result=value)
        return value


def _look(tool: Tool[C], context: C, arguments: Mapping[str, Any]) -> Look | None:
    reconcile = tool.reconcile
    if reconcile is None:
        return None

    async def look(idempotency_key: str) -> tuple[bool | None, Any]:
        async with asyncio.timeout(RECONCILE_SECONDS):
            found = await reconcile(context, arguments, idempotency_key)
        return found.happened, found.result

    return look


async def _action(tool: Tool[C], context: C, arguments: Mapping[str, Any]) -> Action:
    spec = tool.spec
    written = nameless(canonical(arguments))
    digest = digest_of("tool", spec.name, written.encode())
    if tool.asks:
        question = visible(str(arguments["question"]))
        choices = [str(choice) for choice in arguments.get("choices", [])]
        return Action(
            kind="tool",
            name=spec.name,
            digest=digest,
            risk="read",
            request={"question": question, "choices": choices},
            preview={"form": "question"},
            question=question,
            choices=choices,
        )
    shown = preview_of(arguments) if tool.preview is None else await tool.preview(context, arguments)
    recipient = {name: arguments.get(name) for name in spec.recipients}
    return Action(
        kind="tool",
        name=spec.name,
        digest=digest,
        risk=spec.risk,
        request={"arguments": without_placeholders(dict(arguments))},
        preview={"tool": spec.name, "description": spec.description, **legible(shown)},
        standing={"tool": spec.name, "recipient": recipient} if recipient else None,
    )


def preview_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Show arguments as fields, whole."""
    fields = [
        {"name": name, "value": value if isinstance(value, str) else canonical(value)}
        for name, value in arguments.items()
    ]
    return {"form": "fields", "fields": fields}


def legible(value: Any) -> Any:
    """Return a JSON value with each text as `visible` writes it, and secrets by their names."""
    if isinstance(value, str):
        return visible(nameless(value))
    if isinstance(value, Mapping):
        return {visible(str(key)): legible(item) for key, item in value.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, (list, tuple)):
        return [legible(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
