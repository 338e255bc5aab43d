"""Tells of every request once, at its end; after many, only how many more there were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from pythonic_assistant.domain.event import EgressRequested

_LONGEST_HOST = 253  # RFC 1035


@dataclass(slots=True)
class _Rest:
    """Requests of one outcome that are not told of one by one."""

    count: int = 0
    sent: int = 0
    received: int = 0


class Reporter:
    """Passes reports on.

    Args:
        report: who wants to know.
        most: reports that are passed on one by one.
        redact: cuts secrets out of a name that code made up.
    """

    def __init__(
        self, report: Callable[[EgressRequested], None], *, most: int, redact: Callable[[str], str]
    ) -> None:
        self._report = report
        self._left = most
        self._redact = redact
        self._more: dict[Literal["allowed", "refused", "failed"], _Rest] = {}

    def tell(self, event: EgressRequested) -> None:
        """Report a request that has ended."""
        if self._left > 0:
            self._left -= 1
            host = "".join(letter if letter.isprintable() else "?" for letter in self._redact(event.host))
            self._report(
                replace(
                    event,
                    host=host[:_LONGEST_HOST],
                    method=self._redact(event.method),
                    reason=self._redact(event.reason),
                )
            )
            return
        so_far = self._more.setdefault(event.outcome, _Rest())
        so_far.count += 1
        so_far.sent += event.sent_bytes
        so_far.received += event.received_bytes

    def finish(self) -> None:
        """Report how many requests were not told of one by one.

        Each outcome by itself: what was sent must not look as if all of it had been refused.
        """
        more, self._more = self._more, {}
        for outcome, rest in more.items():
            self._report(
                EgressRequested(
                    host="(more)",
                    port=0,
                    method="(any)",
                    outcome=outcome,
                    reason=f"{rest.count:,} more requests, not listed one by one.",
                    sent_bytes=rest.sent,
                    received_bytes=rest.received,
                )
            )
