"""What a worker lets the code of a task reach: secrets of its hosts, limits, tools, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pythonic_assistant.adapters.egress.means import Unrecorded
from pythonic_assistant.adapters.secrets.keyring import WorkerKey, key_of
from pythonic_assistant.adapters.secrets.vault import generate_key, seal
from pythonic_assistant.adapters.store.supabase_secrets import SealedSecret
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.event import EgressRequested, Noted
from pythonic_assistant.domain.secret import BoundSecret
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.ports import EffectLedger
from pythonic_assistant.wire import TimedEvent, ToolAnswered, ToolAsked
from worker.access import Means, TaskAccess
from worker.bounds import bounds_of
from worker.config import WorkerConfig
from worker.tools import MOST_WAITING, Answering, TaskTools

KEY = key_of(generate_key())


def sealed(name: str, value: str, *hosts: str, key: WorkerKey = KEY, raw: bool = False) -> SealedSecret:
    return SealedSecret(
        id=f"id-of-{name}",
        name=name,
        hosts=hosts,
        raw=raw,
        ciphertext=seal(key.public_key, value),
        key_id=key.key_id,
    )


class Store:
    """Keeps sealed secrets; cannot open one."""

    def __init__(self, *secrets: SealedSecret, down: bool = False) -> None:
        self.secrets, self.down = secrets, down
        self.asked: list[str] = []
        self.noted: list[str] = []

    async def of_person(self, user_id: str) -> tuple[SealedSecret, ...]:
        self.asked.append(user_id)
        return self.secrets

    async def used(self, ids: Sequence[str]) -> None:
        if self.down:
            raise StoreUnavailableError("away")
        self.noted += ids


@dataclass(frozen=True)
class Grant:
    token: str = "the-token"
    certificate: str = "PEM"
    socket: Path = Path("/run/broker.sock")


@dataclass
class Broker:
    """Stands where the proxy does: remembers what was granted."""

    hosts: tuple[str, ...] = ()
    secrets: tuple[BoundSecret, ...] = ()
    report: Callable[[EgressRequested], None] | None = None
    ledger: EffectLedger | None = None
    revoked: list[str] = field(default_factory=list[str])

    def grant(
        self,
        *,
        hosts: Sequence[str],
        secrets: Sequence[BoundSecret],
        report: Callable[[EgressRequested], None],
        ledger: EffectLedger,
    ) -> Grant:
        self.ledger = ledger
        self.hosts, self.secrets, self.report = tuple(hosts), tuple(secrets), report
        return Grant()

    async def revoke(self, token: str) -> None:
        self.revoked.append(token)


def access_of(store: Store, broker: Broker) -> tuple[TaskAccess, list[TimedEvent]]:
    told: list[TimedEvent] = []
    return TaskAccess(Means(store=store, key=KEY, broker=broker), told.append, Unrecorded()), told


def warnings(told: list[TimedEvent]) -> list[str]:
    return [timed.event.text for timed in told if isinstance(timed.event, Noted)]


async def test_without_hosts_no_secret_is_even_read() -> None:
    store, broker = Store(sealed("TOKEN", "the value", "api.github.com")), Broker()
    access, told = access_of(store, broker)
    await access.open("someone", ())
    assert (store.asked, access.grant, access.environment, told) == ([], None, {}, [])
    assert broker.report is None


async def test_code_gets_a_placeholder_and_the_broker_the_value() -> None:
    store = Store(
        sealed("TOKEN", "the value", "api.github.com"), sealed("OTHER", "not wanted", "example.org")
    )
    broker = Broker()
    access, _ = access_of(store, broker)
    await access.open("someone", ["API.github.com", "api.github.com"])
    assert broker.hosts == access.hosts == ("api.github.com",)
    assert list(access.environment) == ["TOKEN"]
    assert access.environment["TOKEN"].startswith("PLACEHOLDER_TOKEN_")
    assert [(secret.value, secret.placeholder) for secret in broker.secrets] == [
        ("the value", access.environment["TOKEN"])
    ]
    assert access.grant is not None
    assert (access.grant.token, access.grant.certificate) == ("the-token", "PEM")
    assert "the value" not in repr((access.grant, access.secrets, store.secrets))


async def test_placeholders_are_of_one_attempt_alone() -> None:
    seen = set[str]()
    for _ in range(2):
        access, _ = access_of(Store(sealed("TOKEN", "the value", "api.github.com")), Broker())
        await access.open("someone", ["api.github.com"])
        seen.add(access.environment["TOKEN"])
    assert len(seen) == 2


async def test_a_secret_of_another_worker_is_named_and_left_out() -> None:
    foreign = sealed("TOKEN", "the value", "api.github.com", key=key_of(generate_key()))
    access, told = access_of(Store(foreign), Broker())
    await access.open("someone", ["api.github.com"])
    assert access.environment == {}
    (warning,) = warnings(told)
    assert "TOKEN" in warning
    assert "enter it again" in warning


async def test_a_secret_whose_owner_sealed_nonsense_is_left_out() -> None:
    short = SealedSecret(
        id="1", name="PIN", hosts=("example.org",), raw=False, ciphertext="AAAA", key_id=KEY.key_id
    )
    access, told = access_of(Store(short), Broker())
    await access.open("someone", ["example.org"])
    assert (access.environment, len(warnings(told))) == ({}, 1)


async def test_a_raw_secret_comes_with_a_warning() -> None:
    access, told = access_of(
        Store(sealed("DB_PASSWORD", "open sesame", "db.example.org", raw=True)), Broker()
    )
    await access.open("someone", ["db.example.org"])
    assert access.environment == {"DB_PASSWORD": "open sesame"}
    assert access.raw == ("DB_PASSWORD",)
    (warning,) = warnings(told)
    assert "DB_PASSWORD" in warning
    assert "open sesame" not in warning
    assert "open sesame" not in access.redactor.text("it is open sesame")


async def test_requests_are_told_in_order_and_used_secrets_are_noted_once() -> None:
    store, broker = Store(sealed("TOKEN", "the value", "api.github.com")), Broker()
    access, told = access_of(store, broker)
    await access.open("someone", ["api.github.com"])
    assert broker.report is not None
    for status in (200, 404):
        broker.report(
            EgressRequested(
                host="api.github.com",
                port=443,
                method="GET",
                outcome="allowed",
                status=status,
                secrets=("TOKEN",),
            )
        )
    await access.close()
    await access.close()
    assert [timed.event.status for timed in told if isinstance(timed.event, EgressRequested)] == [200, 404]
    assert broker.revoked == ["the-token"]
    assert store.noted == ["id-of-TOKEN"]


async def test_a_database_that_is_away_at_the_end_does_not_keep_the_grant_open() -> None:
    store, broker = Store(sealed("TOKEN", "the value", "api.github.com"), down=True), Broker()
    access, _ = access_of(store, broker)
    await access.open("someone", ["api.github.com"])
    assert broker.report is not None
    broker.report(
        EgressRequested(host="api.github.com", port=443, method="GET", outcome="allowed", secrets=("TOKEN",))
    )
    await access.close()
    assert broker.revoked == ["the-token"]


async def test_a_row_with_a_host_that_is_none_grants_nothing() -> None:
    broker = Broker()
    access, _ = access_of(Store(), broker)
    with pytest.raises(InvalidInputError, match="wildcard"):
        await access.open("someone", ["*.github.com"])
    assert broker.report is None


# --- Limits ---

CONFIG = WorkerConfig(supabase_url="http://x", supabase_key="k", home=Path("/nowhere"))


def test_a_task_may_name_smaller_limits_and_a_longer_time() -> None:
    limits, budget, notes = bounds_of({"memory_bytes": 64 << 20, "seconds": 3600}, CONFIG)
    assert (limits.memory_bytes, limits.processes) == (64 << 20, CONFIG.limits.processes)
    assert (budget.seconds, budget.turns, notes) == (3600, CONFIG.budget.turns, ())


def test_more_than_the_operator_allows_is_cut_and_told() -> None:
    limits, budget, notes = bounds_of({"memory_bytes": 1 << 40, "turns": 10**9, "seconds": 10}, CONFIG)
    assert limits.memory_bytes == CONFIG.limits.memory_bytes
    assert (budget.turns, budget.seconds) == (CONFIG.most_budget.turns, 10)
    assert [note.split(" is ")[0] for note in notes] == ["The limit memory_bytes", "The limit turns"]


@pytest.mark.parametrize("given", [{"memory": 1 << 30}, {"turns": "many"}, {"seconds": 0}, {"tokens": True}])
def test_impossible_limits_are_a_sentence(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="limit"):
        bounds_of(given, CONFIG)


# --- Tools ---


class Records:
    """Remembers for whom it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def earlier_tasks(self, user_id: str, words: str, most: int) -> list[dict[str, Any]]:
        self.asked.append((user_id, words, most))
        await self.go.wait()
        return [{"id": 1}]

    async def thread_files(self, thread_id: str) -> list[dict[str, Any]]:
        self.asked.append((thread_id,))
        raise StoreUnavailableError("Supabase did not answer.")


def task_with(*tools: str, thread: str | None = "their-thread") -> ClaimedTask:
    return ClaimedTask(
        id=1,
        attempt=1,
        user_id="their-id",
        kind="task",
        prompt="do it",
        thread_id=thread,
        model=None,
        instructions="",
        inputs=(),
        tools=tools,
    )


async def test_a_tool_works_for_the_tasks_person_whatever_the_code_says() -> None:
    records = Records()
    tools = TaskTools(task_with("earlier_tasks"), records, Unrecorded())
    answered = await tools.answer(ToolAsked(id=7, tool="earlier_tasks", arguments={"words": "bill"}))
    assert answered == ToolAnswered(id=7, value=[{"id": 1}])
    assert records.asked == [("their-id", "bill", 5)]
    refused = await tools.answer(
        ToolAsked(id=8, tool="earlier_tasks", arguments={"words": "", "user_id": "x"})
    )
    assert refused.error is not None
    assert len(records.asked) == 1


async def test_a_tool_that_was_not_granted_is_not_called() -> None:
    records = Records()
    answered = await TaskTools(task_with("earlier_tasks"), records, Unrecorded()).answer(
        ToolAsked(id=1, tool="thread_files", arguments={})
    )
    assert answered.error is not None
    assert "thread_files" in answered.error
    assert records.asked == []


async def test_a_tool_without_a_database_or_a_thread_says_so() -> None:
    asked = ToolAsked(id=1, tool="thread_files", arguments={})
    failed = await TaskTools(task_with("thread_files"), Records(), Unrecorded()).answer(asked)
    assert failed.error is not None
    assert "did not answer" in failed.error
    nothing = await TaskTools(task_with("thread_files", thread=None), Records(), Unrecorded()).answer(asked)
    assert (nothing.value, nothing.error) == ([], None)


def test_an_assistant_that_grants_a_tool_that_is_none_is_told_so() -> None:
    with pytest.raises(InvalidInputError, match="send_rockets"):
        TaskTools(task_with("send_rockets"), Records(), Unrecorded())


async def test_a_flood_of_calls_is_bounded_and_every_call_is_answered() -> None:
    records = Records()
    records.go.clear()
    answers: list[ToolAnswered] = []

    async def send(answered: ToolAnswered) -> None:
        answers.append(answered)

    answering = Answering(TaskTools(task_with("earlier_tasks"), records, Unrecorded()), send)
    for number in range(MOST_WAITING + 10):
        answering.ask(ToolAsked(id=number, tool="earlier_tasks", arguments={}))
    await asyncio.sleep(0.05)
    assert len(records.asked) == 4
    assert [answered.id for answered in answers] == list(range(MOST_WAITING, MOST_WAITING + 10))
    records.go.set()
    async with asyncio.timeout(5):
        while len(answers) < MOST_WAITING + 10:
            await asyncio.sleep(0.01)
    await answering.close()


async def test_calls_that_are_open_at_the_end_are_dropped() -> None:
    records = Records()
    records.go.clear()
    answers: list[ToolAnswered] = []

    async def send(answered: ToolAnswered) -> None:
        answers.append(answered)

    answering = Answering(TaskTools(task_with("earlier_tasks"), records, Unrecorded()), send)
    answering.ask(ToolAsked(id=1, tool="earlier_tasks", arguments={}))
    await asyncio.sleep(0.01)
    await answering.close()
    records.go.set()
    await asyncio.sleep(0.01)
    assert answers == []
