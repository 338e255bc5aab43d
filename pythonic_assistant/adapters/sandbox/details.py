"""What a zygote tells about its walls, read from its ready message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = ("tier", "landlock", "users", "memory")
_MAX_TEXT = 100


def details_of(answer: Mapping[str, Any]) -> dict[str, str | int]:
    """Return the facts of a ready message.

    `tier` is what isolates; `landlock` the version of Landlock in use, 0 where it is missing; `users`
    "slots" where each session has a user of its own, else "one"; `memory` what counts memory: "cgroup v1",
    "cgroup v2", or "watchdog".
    """
    found: dict[str, str | int] = {}
    for name in _NAMES:
        value = answer.get(name)
        if isinstance(value, str):
            found[name] = value[:_MAX_TEXT]
        elif isinstance(value, int):
            found[name] = value
    return found
