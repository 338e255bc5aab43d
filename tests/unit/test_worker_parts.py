"""Names on disk and in Storage, and the relay of events."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from pythonic_assistant.adapters.store.naming import storage_name, unique_names
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.errors import EventsForgottenError, InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.event import (
    CheckExecuted,
    CodeExecuted,
    EgressRequested,
    Event,
    Noted,
    OutputWritten,
    RunFailed,
    RunSucceeded,
    StepFinished,
)
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.verdict import Evidence, Verdict
from pythonic_assistant.ports import Fence
from pythonic_assistant.wire import TimedEvent
from worker.relay import Relay, with_refusals


@pytest.mark.parametrize(
    ("names", "made"),
    [
        (["a.csv", "a.csv", "a.csv"], ["a.csv", "a-2.csv", "a-3.csv"]),
        (["../../etc/passwd", "..\\win.ini"], ["passwd", "win.ini"]),
        ([".env", "...", ""], ["env", "file", "file-2"]),
        (["a\0b.txt"], ["ab.txt"]),
        (["é" * 300 + ".csv"], ["é" * 98 + ".csv"]),
    ],
)
def test_input_names_are_safe_and_unique(names: list[str], made: list[str]) -> None:
    assert unique_names(names) == made


def test_storage_keys_keep_to_what_storage_takes_and_stay_apart() -> None:
    assert storage_name("out/plot 1.png") == "out/plot 1.png"
    assert storage_name("größe.png") == "gr=f6==df=e.png"
    assert storage_name("é.csv") != storage_name("=e9=.csv")
    assert storage_name("a#b") != storage_name("a%b")


class Journal:
    """Keeps what it is given; refuses the first `down` calls, and everything once `lost`."""

    def __init__(self, down: int = 0, lost: bool = False) -> None:
        self.down, self.lost = down, lost
        self.batches: list[list[Mapping[str, Any]]] = []

    async def append(
        self, fence: Fence, events: Sequence[Mapping[str, Any]], after: int | None = None
    ) -> bool:
        await asyncio.sleep(0.01)
        if self.down:
            self.down -= 1
            raise StoreUnavailableError("away")
        if self.lost:
            return False
        self.batches.append(list(events))
        return True

    async def finish(self, fence: Fence, *, answer: str, verdict: Verdict, usage: Usage) -> bool:
        raise AssertionError

    async def fail(
        self, fence: Fence, *, error: str, retryable: bool, evidence: Sequence[Evidence], usage: Usage
    ) -> bool:
        raise AssertionError


def at(event: Event) -> TimedEvent:
    return TimedEvent(at=datetime.now(UTC), event=event)


def output(text: str, stream: Any = "stdout") -> TimedEvent:
    return at(OutputWritten(step_id="s1", execution=1, stream=stream, text=text))


async def relayed(journal: Journal, *events: TimedEvent) -> Relay:
    relay = Relay(journal, Fence(7, 1))
    task = asyncio.create_task(relay.run())
    for event in events:
        relay.put(event)
    async with asyncio.timeout(5):
        await relay.drained()
    task.cancel()
    await asyncio.wait({task})
    return relay


async def test_events_are_numbered_without_gaps_and_output_is_joined() -> None:
    journal = Journal()
    await relayed(
        journal, at(Noted(text="a")), output("1"), output("2"), output("3", "stderr"), at(Noted(text="b"))
    )
    rows = [row for batch in journal.batches for row in batch]
    assert [row["seq"] for row in rows] == [1, 2, 3, 4]
    assert [row["data"]["text"] for row in rows] == ["a", "12", "3", "b"]


@pytest.mark.parametrize("lost", [False, True])
async def test_what_was_put_is_stored_or_will_never_be(lost: bool) -> None:
    journal = Journal(down=1, lost=lost)
    relay = Relay(journal, Fence(7, 1))
    running = asyncio.create_task(relay.run())
    assert await relay.stored(), "nothing was put yet"
    relay.put(at(Noted(text="before")))
    async with asyncio.timeout(5):
        assert await relay.stored() is not lost
    assert [row["data"]["text"] for batch in journal.batches for row in batch] == ([] if lost else ["before"])
    running.cancel()
    await asyncio.wait({running})


async def test_a_database_that_is_away_is_waited_for_and_nothing_is_lost() -> None:
    journal = Journal(down=2)
    await relayed(journal, *[at(Noted(text=str(number))) for number in range(5)])
    assert [row["data"]["text"] for batch in journal.batches for row in batch] == list("01234")


class CrashingJournal(Journal):
    """A database that forgets what was not yet on its disk, as one that is killed does."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, str] = {}

    async def append(
        self, fence: Fence, events: Sequence[Mapping[str, Any]], after: int | None = None
    ) -> bool:
        self.rows |= {row["seq"]: row["kind"] for row in events}
        return True


async def test_what_a_crash_took_is_stored_with_the_next_that_must_last() -> None:
    journal = CrashingJournal()
    relay = Relay(journal, Fence(7, 1))
    task = asyncio.create_task(relay.run())
    for _ in range(3):
        relay.put(at(Noted(text="a")))
        await relay.drained()
    journal.rows.clear()
    relay.put(at(RunFailed(error="e", retryable=False, usage=Usage())))
    await relay.drained()
    task.cancel()
    assert journal.rows == {1: "noted", 2: "noted", 3: "noted", 4: "run_failed"}


class LookingJournal(CrashingJournal):
    """Looks whether the event is there that has to be, and refuses what comes after one that is not."""

    async def append(
        self, fence: Fence, events: Sequence[Mapping[str, Any]], after: int | None = None
    ) -> bool:
        if after is not None and after not in self.rows:
            raise EventsForgottenError("gone")
        return await super().append(fence, events, after)


async def test_what_a_crash_took_unseen_is_stored_with_the_next_event() -> None:
    journal = LookingJournal()
    relay = Relay(journal, Fence(7, 1))
    task = asyncio.create_task(relay.run())
    for _ in range(3):
        relay.put(at(Noted(text="a")))
        await relay.drained()
    journal.rows.clear()
    relay.put(at(Noted(text="b")))
    async with asyncio.timeout(5):
        await relay.drained()
    task.cancel()
    assert journal.rows == dict.fromkeys(range(1, 5), "noted")


async def test_what_cannot_be_sent_again_holds_up_nothing() -> None:
    journal = LookingJournal()
    relay = Relay(journal, Fence(7, 1))
    task = asyncio.create_task(relay.run())
    relay.put(at(StepFinished(step_id="s1", outcome="succeeded", code="", output="", executions=1)))
    await relay.drained()
    journal.rows.clear()  # what had to last: somebody has deleted it
    relay.put(at(Noted(text="b")))
    async with asyncio.timeout(5):
        await relay.drained()
    task.cancel()
    assert journal.rows == {2: "noted"}


async def test_a_lost_lease_ends_the_relay() -> None:
    relay = await relayed(Journal(lost=True), at(Noted(text="a")))
    assert relay.lost.is_set()


async def test_what_a_crash_took_in_between_is_sent_once_more() -> None:
    class Crashing(CrashingJournal):
        async def append(
            self, fence: Fence, events: Sequence[Mapping[str, Any]], after: int | None = None
        ) -> bool:
            if events[0]["kind"] == "run_failed" and not self.down:
                self.down = 1
                self.rows.clear()
                raise StoreUnavailableError("killed")
            return await super().append(fence, events, after)

    journal = Crashing()
    relay = Relay(journal, Fence(7, 1))
    task = asyncio.create_task(relay.run())
    for _ in range(3):
        relay.put(at(Noted(text="a")))
        await relay.drained()
    relay.put(at(RunFailed(error="e", retryable=False, usage=Usage())))
    await relay.drained()
    task.cancel()
    assert journal.rows == {1: "noted", 2: "noted", 3: "noted", 4: "run_failed"}


class PickyJournal(Journal):
    """Refuses every batch in which a word stands, as the database refuses a value."""

    async def append(
        self, fence: Fence, events: Sequence[Mapping[str, Any]], after: int | None = None
    ) -> bool:
        if "poison" in str([row["data"] for row in events]) and "could not be stored" not in str(events):
            raise InvalidInputError("too long")
        return await super().append(fence, events, after)


async def test_a_refused_event_costs_no_other_and_leaves_no_gap(caplog: pytest.LogCaptureFixture) -> None:
    journal = PickyJournal()
    poison = CheckExecuted(round=1, check="poison", outcome="passed", detail="", code="")
    await relayed(journal, at(Noted(text="a")), at(poison), at(Noted(text="b")))
    rows = [row for batch in journal.batches for row in batch]
    assert [row["seq"] for row in rows] == [1, 2, 3]
    assert [row["data"]["text"] for row in rows][::2] == ["a", "b"]
    assert "could not be stored: too long" in rows[1]["data"]["text"]


@pytest.mark.parametrize("lasting", [True, False])
async def test_an_answer_is_not_proven_when_what_has_to_last_was_refused(lasting: bool) -> None:
    event: Event = (
        StepFinished(step_id="s1", outcome="succeeded", code="poison", output="", executions=1)
        if lasting
        else CheckExecuted(round=1, check="poison", outcome="passed", detail="", code="")
    )
    journal = PickyJournal()
    relay = await relayed(journal, at(event))
    assert await relay.stored() is not lasting, "what waits for it must not go on as if it were stored"
    proof = Evidence(check="c", outcome="passed", detail="")
    ending = RunSucceeded(answer="a", verdict=Verdict(kind="proven", evidence=(proof,)), usage=Usage())
    told = with_refusals(ending, relay.refused)
    assert isinstance(told, RunSucceeded)
    assert told.answer == "a"
    assert told.verdict.kind == ("unverified" if lasting else "proven")
    assert told.verdict.evidence[0] == proof
    assert ("could not be stored: too long" in told.verdict.evidence[-1].detail) is lasting


class HostileJournal(Journal):
    """Refuses whatever repeats its words, and every note that is longer than a few words."""

    async def append(
        self, fence: Fence, events: Sequence[Mapping[str, Any]], after: int | None = None
    ) -> bool:
        if any(len(str(row["data"])) > 100 for row in events):
            raise InvalidInputError("long " * 30)
        return await super().append(fence, events, after)


async def test_that_something_is_missing_is_told_even_if_the_reason_is_refused() -> None:
    journal = HostileJournal()
    await relayed(journal, at(Noted(text="x" * 200)), at(Noted(text="b")))
    rows = [row for batch in journal.batches for row in batch]
    assert [row["data"]["text"] for row in rows] == ["An event (noted) could not be stored.", "b"]
    assert [row["seq"] for row in rows] == [1, 2]


class BrokenJournal(Journal):
    async def append(
        self, fence: Fence, events: Sequence[Mapping[str, Any]], after: int | None = None
    ) -> bool:
        raise ZeroDivisionError


async def test_a_relay_that_breaks_keeps_nobody_waiting() -> None:
    relay = Relay(BrokenJournal(), Fence(7, 1))
    task = asyncio.create_task(relay.run())
    relay.put(at(Noted(text="a")))
    async with asyncio.timeout(5):
        await relay.drained()
    with pytest.raises(ZeroDivisionError):
        await task


def test_long_storage_keys_stay_apart_and_within_the_limit() -> None:
    one, two = storage_name("ж" * 300 + "1.csv"), storage_name("ж" * 300 + "2.csv")
    assert one != two
    assert max(len(one), len(two)) <= 400
    assert one.endswith("1.csv")


HIDDEN = Redactor({"canary-value": "[TOKEN]"})
DONE = CodeExecuted(step_id="s1", execution=1, outcome="ok", output="canary-value", error="", seconds=0.1)
ASIDE = EgressRequested(host="example.org", port=443, method="GET", outcome="allowed")


async def hidden(*events: TimedEvent) -> tuple[str, list[dict[str, Any]]]:
    """What a relay with a redactor stores: all output together, and the rows."""
    journal = Journal()
    relay = Relay(journal, Fence(7, 1))
    relay.redactor = HIDDEN
    task = asyncio.create_task(relay.run())
    for event in events:
        relay.put(event)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await relay.drained()
    task.cancel()
    await asyncio.wait({task})
    rows = [dict(row) for batch in journal.batches for row in batch]
    return "".join(row["data"]["text"] for row in rows if row["kind"] == "output_written"), rows


async def test_no_event_is_stored_with_a_secret() -> None:
    check = CheckExecuted(round=1, check="canary-value", outcome="passed", detail="canary-value", code="x")
    text, rows = await hidden(output("a canary-value b"), at(check), at(DONE), at(Noted(text="canary-value")))
    assert text == "a [TOKEN] b"
    assert "canary" not in str(rows)
    assert str(rows).count("[TOKEN]") == 5


@pytest.mark.parametrize("size", [1, 2, 5, 11])
async def test_a_secret_in_pieces_is_found(size: int) -> None:
    whole = "one canary-value two cana-ry canary-valu"
    pieces = [output(whole[start : start + size]) for start in range(0, len(whole), size)]
    text, _ = await hidden(*pieces, at(DONE))
    assert text == "one [TOKEN] two cana-ry canary-valu"


async def test_a_secret_in_pieces_is_found_across_what_comes_beside_it() -> None:
    text, rows = await hidden(
        output("canary-"), output("canary-", "stderr"), at(ASIDE), output("value"), output("x", "stderr")
    )
    assert sorted(text.replace("[TOKEN]", "")) == sorted("canary-x")
    assert "canary-value" not in text
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))


async def test_output_that_only_begins_like_a_secret_comes_out_in_the_end() -> None:
    text, rows = await hidden(output("see canary"), at(DONE))
    assert text == "see canary"
    assert [row["kind"] for row in rows].index("code_executed") == len(rows) - 1


async def test_what_the_worker_adds_itself_is_stored_as_it_is() -> None:
    journal = Journal()
    relay = Relay(journal, Fence(7, 1))
    relay.redactor = HIDDEN
    task = asyncio.create_task(relay.run())
    relay.put(at(Noted(text="x")), {"storage_path": "u/canary-value"})
    async with asyncio.timeout(5):
        await relay.drained()
    task.cancel()
    await asyncio.wait({task})
    assert journal.batches[0][0]["data"]["storage_path"] == "u/canary-value"
