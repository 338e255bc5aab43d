"""Tool calls of generated code, told as events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from pythonic_assistant.agent.reading import cut
from pythonic_assistant.domain.errors import ToolError, ToolRefusedError
from pythonic_assistant.domain.event import Event, Noted, ToolCalled
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.ports import Toolbox

MOST_TOLD: Final = 500
"""Calls of one run that become events: a loop that calls for ever must not fill the database."""
_ARGUMENT_CHARACTERS: Final = 1_000


class ToldToolbox:
    """A `ports.Toolbox` that emits each call when it has ended.

    Arguments are cleaned before the tool gets them: a secret that code holds in the clear is for the host
    that it belongs to, not for a tool.
    """

    def __init__(self, toolbox: Toolbox, emit: Callable[[Event], None], redactor: Redactor) -> None:
        self._toolbox = toolbox
        self._emit = emit
        self._redactor = redactor
        self._told = 0

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """As the port."""
        return self._toolbox.specs

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """As the port."""
        began = time.monotonic()
        name = self._redactor.text(name)
        arguments = self._redactor.value(arguments)
        outcome: Literal["ok", "refused", "failed"] = "failed"
        detail = ""
        try:
            value = await self._toolbox.call(name, arguments)
            outcome, detail = "ok", f"{len(json.dumps(value)):,} bytes"
        except ToolError as error:
            outcome = "refused" if isinstance(error, ToolRefusedError) else "failed"
            detail = str(error)
            raise
        else:
            return value
        finally:
            if detail:  # not when the call was cancelled: the run is over
                self._tell(
                    ToolCalled(
                        tool=name[:100],
                        arguments=cut(_shown(arguments), _ARGUMENT_CHARACTERS),
                        outcome=outcome,
                        detail=cut(detail, _ARGUMENT_CHARACTERS),
                        seconds=time.monotonic() - began,
                    )
                )

    def _tell(self, event: ToolCalled) -> None:
        self._told += 1
        if self._told <= MOST_TOLD:
            self._emit(event)
        elif self._told == MOST_TOLD + 1:
            self._emit(
                Noted(text=f"The code called tools more than {MOST_TOLD} times; the rest is not listed.")
            )


def _shown(arguments: Mapping[str, Any]) -> str:
    try:
        return json.dumps(arguments, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "(no JSON)"
