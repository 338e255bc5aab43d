"""What code did beyond its sandbox, folded from events: requests, calls of tools, kept variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Final

from live.rows import texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, or several that are alike. Fields as in `EgressRequested`; sums where there are several."""

    host: str
    port: int
    method: str
    outcome: str
    reason: str = ""
    status: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    secrets: tuple[str, ...] = ()
    times: int = 1

    @property
    def allowed(self) -> bool:
        """Whether it went out."""
        return self.outcome == "allowed"

    @property
    def summary(self) -> bool:
        """Whether it stands for the requests that are not told one by one; the reason counts them."""
        return self.host.startswith("(")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """A call of a tool. Fields as in `ToolCalled`."""

    tool: str
    arguments: str
    outcome: str
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A variable that later tasks of the thread get. `load` is a line of Python that gives it back there."""

    name: str
    type: str
    shape: str
    bytes: int
    load: str


@dataclass(slots=True, kw_only=True)
class Outside:
    """All of it, in the order in which it happened; a variable that was kept again stands once."""

    requests: list[Request] = field(default_factory=list[Request])
    tools: list[ToolUse] = field(default_factory=list[ToolUse])
    kept: dict[str, Kept] = field(default_factory=dict[str, Kept])

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that were reached."""
        return tuple(dict.fromkeys(one.host for one in self.requests if one.allowed and not one.summary))

    def count(self, outcome: str) -> int:
        """How many requests ended so."""
        return sum(one.outcome == outcome for one in self.requests)

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add an event; kinds that are not of this are passed over."""
        match kind:
            case "egress_requested":
                self.requests.append(
                    Request(
                        host=_text(data, "host") or "?",
                        port=_whole(data, "port"),
                        method=_text(data, "method"),
                        outcome=_text(data, "outcome"),
                        reason=_text(data, "reason"),
                        status=_whole(data, "status"),
                        sent_bytes=_whole(data, "sent_bytes"),
                        received_bytes=_whole(data, "received_bytes"),
                        secrets=texts(data.get("secrets")),
                    )
                )
            case "tool_called":
                seconds = data.get("seconds")
                self.tools.append(
                    ToolUse(
                        tool=_text(data, "tool") or "?",
                        arguments=_text(data, "arguments"),
                        outcome=_text(data, "outcome"),
                        detail=_text(data, "detail"),
                        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
                    )
                )
            case "variable_saved" if _text(data, "name"):
                name = _text(data, "name")
                self.kept[name] = Kept(
                    name=name,
                    type=_text(data, "type"),
                    shape=_text(data, "shape"),
                    bytes=_whole(data, "bytes"),
                    load=_load(data),
                )
            case _:
                return


def alike(requests: Sequence[Request]) -> tuple[Request, ...]:
    """Fold requests that differ in their sizes only; refused and failed ones come first, a summary last."""
    folded: dict[Request, Request] = {}
    for one in requests:
        kind = replace(one, sent_bytes=0, received_bytes=0)
        known = folded.get(kind)
        folded[kind] = (
            one
            if known is None
            else replace(
                known,
                times=known.times + 1,
                sent_bytes=known.sent_bytes + one.sent_bytes,
                received_bytes=known.received_bytes + one.received_bytes,
            )
        )
    return tuple(sorted(folded.values(), key=_place))


def _place(one: Request) -> tuple[bool, int]:
    return one.summary, _ORDER.get(one.outcome, 1)


_ORDER: Final = {"refused": 0, "failed": 1, "allowed": 2}

# Where a later task of the thread finds the file: below `inputs/`, with an ending that tells its format.
_ENDINGS: Final = {
    "application/vnd.apache.parquet": ".parquet",
    "application/x-npy": ".npy",
    "application/json": ".json",
    "image/png": ".png",
}


def _load(data: Mapping[str, Any]) -> str:
    """The line that gives the value back. Not `str.format`: the line may have other braces."""
    ending = _ENDINGS.get(_text(data, "media_type"), PurePosixPath(_text(data, "path")).suffix)
    return _text(data, "load").replace("{path!r}", repr(f"inputs/saved_{_text(data, 'name')}{ending}"))


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _whole(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) else 0
