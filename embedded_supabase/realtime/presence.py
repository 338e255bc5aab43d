"""Who is present in a room: pure state, differences as the protocol writes them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Metas = dict[str, dict[str, list[dict[str, Any]]]]


@dataclass(slots=True)
class Presence:
    """The presences of one room, one per member at most.

    Attributes:
        tracked: member → its key and what it tracks, in the order of arrival.
    """

    tracked: dict[int, tuple[str, dict[str, Any]]] = field(
        default_factory=dict[int, tuple[str, dict[str, Any]]]
    )

    def track(self, member: int, key: str, payload: Mapping[str, Any]) -> dict[str, Metas]:
        """Enter or replace what a member tracks; return the difference to tell the room."""
        before = self.tracked.pop(member, None)
        meta = {**payload, "phx_ref": secrets.token_urlsafe(9)}
        leaves: Metas = {}
        if before is not None:
            meta["phx_ref_prev"] = before[1]["phx_ref"]
            leaves = _as_metas([before])
        self.tracked[member] = (key, meta)
        return {"joins": _as_metas([(key, meta)]), "leaves": leaves}

    def untrack(self, member: int) -> dict[str, Metas] | None:
        """Take a member out; return the difference, or None if it tracked nothing."""
        before = self.tracked.pop(member, None)
        return None if before is None else {"joins": {}, "leaves": _as_metas([before])}

    def state(self) -> Metas:
        """Everybody, as a newcomer is told."""
        return _as_metas(list(self.tracked.values()))


def _as_metas(entries: list[tuple[str, dict[str, Any]]]) -> Metas:
    result: Metas = {}
    for key, meta in entries:
        result.setdefault(key, {"metas": []})["metas"].append(meta)
    return result
