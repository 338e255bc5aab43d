"""The worker process of `soak_queue`: `python -m benchmarks.soak_worker`, with the environment of `worker`.

It is the real worker with zygote, spare runner and all; only its attempts do without a runner: for the soak
alone, because twenty thousand runner processes would take hours.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.event import Noted, RunSucceeded
from pythonic_assistant.domain.verdict import Verdict
from pythonic_assistant.wire import TimedEvent
from worker import __main__ as root
from worker.attempt import Attempt


class AttemptWithoutRunner(Attempt):
    """Tells two events and succeeds; everything else is an attempt's own."""

    async def _run_with_access(self) -> RunSucceeded:
        now = datetime.now(UTC)
        self._relay.put(TimedEvent(at=now, event=Noted(text="no runner: this is a soak")))
        ending = RunSucceeded(answer="done", verdict=Verdict(kind="unverified"), usage=Usage(turns=1))
        self._ending = TimedEvent(at=now, event=ending)
        self._relay.put(self._ending)
        return ending


if __name__ == "__main__":
    root.Attempt = AttemptWithoutRunner
    sys.exit(asyncio.run(root.main()))
