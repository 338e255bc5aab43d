"""Events of one attempt on their way into the database: numbered, gathered into batches, sent in order."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pythonic_assistant.domain.errors import EventsForgottenError, InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.event import Event, Noted, OutputWritten, RunFailed, RunSucceeded, RunWaiting
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.verdict import Evidence, Verdict
from pythonic_assistant.ports import Fence, RunJournal
from pythonic_assistant.wire import TimedEvent, fields_of

log = logging.getLogger(__name__)

SHORTEST_PAUSE_SECONDS = 0.05
"""Between two batches; the first event after a quiet time goes at once. Well below the 250 ms promised."""
LARGEST_BATCH = 200
FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 5.0


_BESIDE_OUTPUT = frozenset({"egress_requested", "tool_called", "noted"})
"""What may come between two pieces of the same output."""
NOTHING_HIDDEN = Redactor({})


DURABLE = frozenset(
    {
        "plan_made",
        "step_finished",
        "item_added",
        "model_replied",
        "run_waiting",
        "run_succeeded",
        "run_failed",
    }
)
"""What `append_events` puts on the disk before it answers; the rest may be lost when the database crashes."""
MOST_UNSURE = 2_000
"""Rows that are sent again; of so many since the last durable one, only a chatty loop's first are not."""


class Relay:
    """Writes what `put` is given. `run` does the writing, in the task group of the attempt.

    `redactor` is the last net: whatever comes after it was set is stored without the values of secrets.
    `refused` says, in a sentence for each, what has to last and the database would not take.
    """

    def __init__(self, journal: RunJournal, fence: Fence) -> None:
        self._journal = journal
        self._fence = fence
        self._rows: list[dict[str, Any]] = []
        self._seq = 0
        self._stored = 0  # the last number that is in the database
        self._breaks = 0  # how often the database did not answer
        self._unsure: deque[dict[str, Any]] = deque(maxlen=MOST_UNSURE)
        self._progress = asyncio.Condition()
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.lost = asyncio.Event()
        self.redactor = NOTHING_HIDDEN
        self.refused: tuple[str, ...] = ()
        self._held: dict[tuple[str, int, str], OutputWritten] = {}

    def put(self, timed: TimedEvent, extra: Mapping[str, Any] | None = None) -> None:
        """Take an event.

        Args:
            extra: fields that the worker adds to what the runner told, such as a storage path.
        """
        if isinstance(timed.event, OutputWritten) and self.redactor:
            self._take_output(timed, timed.event)
            return
        if timed.event.kind not in _BESIDE_OUTPUT:
            self._release()
        self._take(timed, extra)

    def _take_output(self, timed: TimedEvent, event: OutputWritten) -> None:
        """Hold back the end of output that may begin a secret's value, until the next piece comes."""
        stream = (event.step_id, event.execution, event.stream)
        before = self._held.pop(stream, None)
        text = (before.text if before else "") + event.text
        settled = self.redactor.settled(text)
        if settled < len(text):
            self._held[stream] = replace(event, text=text[settled:])
        if settled:
            self._take(TimedEvent(at=timed.at, event=replace(event, text=text[:settled])), None)

    def _release(self) -> None:
        """Let go of what was held back: it was no value."""
        held, self._held = self._held, {}
        for event in held.values():
            self._take(TimedEvent(at=datetime.now(UTC), event=event), None)

    def _take(self, timed: TimedEvent, extra: Mapping[str, Any] | None) -> None:
        if self._joined_to_last(timed.event, timed):
            return
        self._seq += 1
        fields = fields_of(timed.event)
        step_id = fields.get("step_id")
        data = self.redactor.value(fields) | dict(extra or {})
        self._rows.append(
            {
                "seq": self._seq,
                "kind": timed.event.kind,
                "step_id": step_id,
                "at": timed.at.isoformat(),
                "data": data,
            }
        )
        self._empty.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Send batches until cancelled; sets `lost` and returns when the lease is.

        A fault of ours sets it too: whoever waits for the events has to learn that none will be stored.
        """
        try:
            await self._send_forever()
        except Exception:
            self.lost.set()
            raise
        finally:
            async with self._progress:
                self._progress.notify_all()

    async def _send_forever(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._rows:
                batch, self._rows = self._rows[:LARGEST_BATCH], self._rows[LARGEST_BATCH:]
                if not await self._send_durably(batch):
                    self.lost.set()
                    return
                async with self._progress:
                    self._stored = batch[-1]["seq"]
                    self._progress.notify_all()
            self._empty.set()
            await asyncio.sleep(SHORTEST_PAUSE_SECONDS)

    async def _send_durably(self, batch: list[dict[str, Any]]) -> bool:
        """Send a batch; before a durable one everything since the one before, which a crash may have taken.

        The same number twice is stored once.
        """
        if not any(row["kind"] in DURABLE for row in batch):
            if not await self._send(batch):
                return False
            self._unsure.extend(batch)
            return True
        again = list(self._unsure)
        while True:
            breaks = self._breaks
            if not (await self._send_all(again) and await self._send(batch)):
                return False
            if self._breaks == breaks:  # else a crash in between may have taken what had just been sent again
                break
        self._unsure.clear()
        return True

    async def stored(self) -> bool:
        """Wait until what was put so far is in the database; False when it will not be.

        The lease is lost then, or the database refused what has to last.
        """
        last = self._seq
        async with self._progress:
            await self._progress.wait_for(lambda: self._stored >= last or self.lost.is_set())
        return self._stored >= last and not self.refused

    async def drained(self) -> None:
        """Wait until all events are stored, or the lease is lost."""
        self._release()
        waits = [asyncio.create_task(self._empty.wait()), asyncio.create_task(self.lost.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _joined_to_last(self, event: Event, timed: TimedEvent) -> bool:
        """Join pieces of the same output that wait together, so that a chatty loop is a few rows."""
        if not isinstance(event, OutputWritten) or not self._rows:
            return False
        last = self._rows[-1]
        if last["kind"] != "output_written":
            return False
        data = last["data"]
        same = (data["step_id"], data["execution"], data["stream"]) == (
            event.step_id,
            event.execution,
            event.stream,
        )
        if not same or len(data["text"]) > 16_000:
            return False
        data["text"] += self.redactor.text(fields_of(event)["text"])
        last["at"] = timed.at.isoformat()
        return True

    async def _send_all(self, rows: list[dict[str, Any]]) -> bool:
        for begin in range(0, len(rows), LARGEST_BATCH):
            if not await self._send(rows[begin : begin + LARGEST_BATCH]):
                return False
        return True

    async def _send(self, batch: list[dict[str, Any]]) -> bool:
        try:
            return await self._append(batch)
        except InvalidInputError as error:
            if len(batch) > 1:
                return all([await self._send([row]) for row in batch])
            row = batch[0]
            log.exception(
                "event refused",
                exc_info=error,
                extra={"action": "append_refused", "task_id": self._fence.task_id, "kind": row["kind"]},
            )
            return await self._send_why(row, f"An event ({row['kind']}) could not be stored: {error}")

    async def _send_why(self, row: dict[str, Any], sentence: str) -> bool:
        """Store in place of a row that was refused why it is not there; the number keeps its place."""
        if row["kind"] in DURABLE and sentence not in self.refused:
            self.refused += (sentence,)
        for text in (sentence, f"An event ({row['kind']}) could not be stored."):
            note = {
                **row,
                "kind": "noted",
                "step_id": None,
                "data": fields_of(Noted(text=text, level="warning")),
            }
            try:
                return await self._append([note])
            except InvalidInputError as error:
                log.exception(
                    "note refused",
                    exc_info=error,
                    extra={"action": "append_refused", "task_id": self._fence.task_id, "kind": "noted"},
                )
        return True  # the numbers keep the gap

    async def _append(self, batch: list[dict[str, Any]]) -> bool:
        """Repeat until the database takes a batch; False: the lease is lost.

        Raises:
            InvalidInputError: the database refuses it.
        """
        first = batch[0]["seq"]
        after = first - 1 if first > 1 else None
        wait = FIRST_RETRY_SECONDS
        while True:
            try:
                return await self._journal.append(self._fence, batch, after)
            except EventsForgottenError:
                # Nobody else notices a database that was killed and is back before the next call.
                if not await self._send_all([row for row in self._unsure if row["seq"] < first]):
                    return False
                after = None  # what is not there by now was refused, or is older than what is kept
            except StoreUnavailableError as error:
                self._breaks += 1
                log.warning(
                    "events wait for the database",
                    extra={
                        "action": "append_retry",
                        "task_id": self._fence.task_id,
                        "attempt": self._fence.attempt,
                        "reason": str(error),
                    },
                )
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_RETRY_SECONDS)


def with_refusals(
    ending: RunSucceeded | RunFailed | RunWaiting, refused: tuple[str, ...]
) -> RunSucceeded | RunFailed | RunWaiting:
    """Return the same ending, not proven where what has to last could not be stored: nobody could look."""
    if not refused or not isinstance(ending, RunSucceeded):
        return ending
    missing = Evidence(
        check="Everything that shows the answer is stored", outcome="failed", detail="\n".join(refused)
    )
    verdict = Verdict(kind="unverified", evidence=(*ending.verdict.evidence, missing))
    return replace(ending, verdict=verdict)
