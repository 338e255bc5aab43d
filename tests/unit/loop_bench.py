"""The loop around a model that follows a list and a sandbox without walls."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar

from pythonic_assistant.agent import loop
from pythonic_assistant.domain.conversation import CodeResult, Said
from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.event import Event
from pythonic_assistant.domain.task import RunRequest
from tests.fakes import ListedModel, OpenSandbox


class Way:
    """A way out that leads nowhere: the loop only asks for its hosts."""

    hosts = ("api.example.com", "data.example.org")
    certificate = "PEM"

    seen: ClassVar[list[bool]] = []
    once_more: ClassVar[bool] = False

    def serve(self, listener: object) -> AbstractAsyncContextManager[None]:
        raise NotImplementedError

    async def at(self, place: Place) -> None:
        Way.once_more = place.rerun


class Bench:
    def __init__(self, folder: Path) -> None:
        self.sandbox = OpenSandbox(folder / "sessions")
        self.outbox = folder / "outbox"
        self.outbox.mkdir()
        self.model = ListedModel([])
        self.events: list[Event] = []

    async def run(self, *replies: Any, egress: Any = None, toolbox: Any = None, **request: Any) -> Any:
        self.model = ListedModel(list(replies))
        await loop.run(
            RunRequest(**({"prompt": "do it"} | request)),
            model=self.model,
            sandbox=self.sandbox,
            outbox=self.outbox,
            emit=self.events.append,
            egress=egress,
            toolbox=toolbox,
        )
        assert not self.model.replies, "the run asked less than was expected"
        return self.events[-1]

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.kind == kind]

    def told(self, request: int) -> str:
        item = self.model.requests[request].items[-1]
        assert isinstance(item, Said | CodeResult)
        return item.text
