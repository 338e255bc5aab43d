"""Tells of every request once, at its end; after many, only how many more there were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from pythonic_assistant.domain.event import EgressRequested

_LONGEST_HOST = 253  # RFC 1035


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
        self._more: Counter[str] = Counter()
        self._sent = self._received = 0

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
        self._more[event.outcome] += 1
        self._sent += event.sent_bytes
        self._received += event.received_bytes

    def finish(self) -> None:
        """Report how many requests were not told of one by one."""
        if not self._more:
            return
        more, self._more = self._more, Counter()
        outcome = "refused" if more["refused"] else "failed" if more["failed"] else "allowed"
        self._report(
            EgressRequested(
                host="(more)",
                port=0,
                method="(any)",
                outcome=outcome,
                reason=f"{more.total():,} more requests, not listed one by one: {more['allowed']:,} allowed, "
                f"{more['refused']:,} refused, {more['failed']:,} failed.",
                sent_bytes=self._sent,
                received_bytes=self._received,
            )
        )
