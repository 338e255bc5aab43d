"""How long an idle worker waits between two looks at the queue, and how often it is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_POLL_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = 0.05
"""After a hint the queue is looked at once more: of several commits at the same moment one tells for all, and
its hint may come before the others can be seen."""


@dataclass(slots=True, kw_only=True)
class Pacing:
    """Decides from what the last look brought.

    Idle it makes one call each `longest` seconds at most, whatever the call is for.

    Args:
        longest: seconds between two looks when nothing happens.
        seen: seconds between two signs of life.
        along: whether a sign of life costs no call of its own.
    """

    longest: float
    seen: float
    along: bool
    _poll: float = FIRST_POLL_SECONDS
    _last_seen: float | None = None
    _again: bool = False

    def hinted(self) -> None:
        """A hint came."""
        self._again = True

    def to_be_seen(self, now: float) -> bool:
        """Whether a sign of life is due; `told` when it was given."""
        return self._last_seen is None or now - self._last_seen >= self.seen

    def told(self, now: float) -> None:
        """A sign of life was given."""
        self._last_seen = now

    def pause(self, *, found: bool, hints: bool, told: bool, due: float | None) -> float:
        """Seconds until the next look.

        Args:
            found: whether the look brought something.
            hints: whether hints arrive: then looking is for what was lost on the way.
            told: whether a sign of life was given with it.
            due: seconds until the next scheduled task is due, or None.
        """
        if self._again:
            self._again = False
            return AGAIN_SECONDS
        if found:
            self._poll = FIRST_POLL_SECONDS
        wait = self.longest if hints else min(self._poll, self.longest)
        self._poll = min(self._poll * 2, self.longest)
        if told and not self.along:
            wait *= 2  # the sign of life was a call too
        return max(0.01, min(wait, due if due is not None else wait))
