"""Files between Storage and a run: what is fetched for it, and what of its own is kept."""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.event import ArtifactSaved, Noted, RunFailed, RunSucceeded, VariableSaved
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.secret import BoundSecret
from pythonic_assistant.domain.task import ClaimedTask, StoredFile, StoredVariable
from pythonic_assistant.domain.verdict import Evidence, Verdict
from pythonic_assistant.wire import TimedEvent
from worker.fetching import Fetching
from worker.keeping import Keeping
from worker.redacting import without_secrets
from worker.relay import Relay

VALUE = "hush-4711-canary"
SECRET = BoundSecret(name="TOKEN", value=VALUE, hosts=("example.org",), placeholder="PLACEHOLDER_TOKEN_1")
TASK = ClaimedTask(
    id=7,
    attempt=1,
    user_id="u",
    kind="task",
    prompt="do it",
    thread_id="t",
    model=None,
    instructions="",
    inputs=(),
)


class Files:
    """Storage in a dict."""

    def __init__(self, **there: bytes) -> None:
        self.there = dict(there)

    async def download(self, storage_path: str, into: Path, *, most_bytes: int) -> int:
        if storage_path not in self.there:
            raise InvalidInputError("There is no such file.")
        into.write_bytes(self.there[storage_path])
        return len(self.there[storage_path])

    async def upload(self, path: Path, storage_path: str, media_type: str) -> None:
        self.there[storage_path] = path.read_bytes()


class Told(Relay):
    """A relay that keeps what it would send."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, Mapping[str, Any]]] = []

    def put(self, timed: TimedEvent, extra: Mapping[str, Any] | None = None) -> None:
        self.told.append((timed.event, extra or {}))

    def warnings(self) -> list[str]:
        return [event.text for event, _ in self.told if isinstance(event, Noted)]


async def once(write: Callable[[], Awaitable[None]]) -> None:
    await write()


def keeping(outbox: Path, files: Files, relay: Relay, *, task: ClaimedTask = TASK) -> Keeping:
    return Keeping(task, outbox=outbox, files=files, relay=relay, persist=once, secrets=(SECRET,))


def artifact(path: Path, name: str | None = None) -> tuple[TimedEvent, ArtifactSaved]:
    event = ArtifactSaved(
        name=name or path.name, path=str(path), media_type="text/csv", bytes=1, sha256="0" * 64
    )
    return TimedEvent(at=datetime.now(UTC), event=event), event


def variable(path: Path, name: str = "frame") -> tuple[TimedEvent, VariableSaved]:
    event = VariableSaved(
        name=name,
        type="dict",
        shape="",
        bytes=1,
        media_type="application/json",
        load="json.load(open({path!r}))",
        path=str(path),
    )
    return TimedEvent(at=datetime.now(UTC), event=event), event


@pytest.mark.parametrize(
    "written",
    [
        VALUE.encode(),
        base64.b64encode(b"user:" + VALUE.encode()),
        VALUE.encode().hex().encode(),
        b"x" * ((1 << 20) - 5) + VALUE.encode() + b"x" * 100,
        b"\xff\x00" * 700_000 + VALUE.encode(),
    ],
    ids=["plain", "base64", "hex", "between two pieces", "in binary"],
)
async def test_a_file_that_holds_a_secret_is_not_stored_and_named(tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(written)
    files, relay = Files(), Told()
    await keeping(tmp_path, files, relay).artifact(*artifact(path))
    await keeping(tmp_path, files, relay).variable(*variable(path))
    assert files.there == {}
    for warning in relay.warnings():
        assert "TOKEN" in warning
        assert VALUE not in warning
    assert len(relay.told) == 2


async def test_a_file_without_a_secret_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"PLACEHOLDER_TOKEN_1, hush-4711")
    files, relay = Files(), Told()
    await keeping(tmp_path, files, relay).artifact(*artifact(path))
    assert list(files.there) == ["u/tasks/7/1/out.csv"]
    ((_, extra),) = relay.told
    assert extra == {"storage_path": "u/tasks/7/1/out.csv", "path": None}


async def test_a_secret_in_a_files_name_does_not_get_out_with_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    files, relay = Files(), Told()
    await keeping(tmp_path, files, relay).artifact(*artifact(path, f"{VALUE}.csv"))
    assert list(files.there) == ["u/tasks/7/1/PLACEHOLDER_TOKEN_1.csv"]
    assert VALUE not in repr(relay.told)


async def test_a_variable_is_stored_below_its_thread(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_bytes(b"{}")
    files, relay = Files(), Told()
    await keeping(tmp_path, files, relay).variable(*variable(path, "größe"))
    assert list(files.there) == ["u/variables/t/7-1/gr=f6==df=e.json"]
    await keeping(tmp_path, files, relay, task=replace(TASK, thread_id=None)).variable(*variable(path))
    assert len(files.there) == 1


@pytest.mark.parametrize("name", ["../x", "a b", "", "1st"])
async def test_a_variable_with_an_odd_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "v.json"
    path.write_bytes(b"{}")
    with pytest.raises(InvalidInputError):
        await keeping(tmp_path, Files(), Told()).variable(*variable(path, name))


async def test_only_files_of_the_outbox_are_taken(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    outside = tmp_path / "private.json"
    outside.write_text("{}")
    (outbox / "link.json").symlink_to(outside)
    for path in (outside, outbox / ".." / "private.json", outbox / "link.json"):
        with pytest.raises(InvalidInputError, match="outside"):
            await keeping(outbox, Files(), Told()).variable(*variable(path))
        with pytest.raises(InvalidInputError, match="outside"):
            await keeping(outbox, Files(), Told()).artifact(*artifact(path))


async def test_a_secret_in_an_archive_is_found_and_what_cannot_be_seen_is_told(tmp_path: Path) -> None:
    table = tmp_path / "table.xlsx"
    with zipfile.ZipFile(table, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", f"<t>{VALUE}</t>")
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("data.csv", "a,b")
    files, relay = Files(), Told()
    await keeping(tmp_path, files, relay).artifact(*artifact(table))
    await keeping(tmp_path, files, relay).artifact(*artifact(other))
    assert [path.rpartition("/")[2] for path in files.there] == ["other.zip"]
    held, unseen = relay.warnings()
    assert "table.xlsx was not stored: it holds the value of TOKEN" in held
    assert "other.zip was stored, but" in unseen
    assert "unusual compression" in unseen


def fetching(tmp_path: Path, files: Files, task: ClaimedTask, warnings: list[Noted]) -> Fetching:
    return Fetching(task, folder=tmp_path / "in", files=files, warn=warnings.append, most_bytes=1000)


def stored(name: str, path: str, media_type: str = "application/json") -> StoredVariable:
    return StoredVariable(
        name=name,
        type="dict",
        shape="1",
        bytes=2,
        media_type=media_type,
        load="json.load(open({path!r}))",
        storage_path=path,
    )


async def test_variables_come_beside_the_persons_files_which_keep_their_names(tmp_path: Path) -> None:
    files = Files(**{"u/1": b"mine", "u/2": b"{}"})
    mine = StoredFile(name="saved_x.json", storage_path="u/1", media_type="text/plain", bytes=4)
    task = replace(TASK, inputs=(mine,), saved=(stored("x", "u/2"),))
    inputs, saved = await fetching(tmp_path, files, task, []).fetch()
    assert [(file.name, file.path.read_bytes()) for file in inputs] == [
        ("saved_x.json", b"mine"),
        ("saved_x-2.json", b"{}"),
    ]
    assert [(item.name, str(item.path), item.bytes) for item in saved] == [("x", "inputs/saved_x-2.json", 2)]


async def test_a_variable_that_is_gone_costs_no_other(tmp_path: Path) -> None:
    warnings: list[Noted] = []
    task = replace(TASK, saved=(stored("gone", "u/1"), stored("there", "u/2")))
    _, saved = await fetching(tmp_path, Files(**{"u/2": b"{}"}), task, warnings).fetch()
    assert [item.name for item in saved] == ["there"]
    assert "gone" in warnings[0].text


async def test_a_variable_of_somebody_else_is_not_fetched(tmp_path: Path) -> None:
    warnings: list[Noted] = []
    task = replace(TASK, saved=(stored("x", "somebody/2"),))
    inputs, saved = await fetching(tmp_path, Files(**{"somebody/2": b"{}"}), task, warnings).fetch()
    assert (inputs, saved, len(warnings)) == ((), (), 1)


def leaky(evidence: Sequence[Evidence]) -> list[RunSucceeded | RunFailed]:
    return [
        RunSucceeded(
            answer=f"it is {VALUE}", verdict=Verdict(kind="proven", evidence=tuple(evidence)), usage=Usage()
        ),
        RunFailed(
            error=f"bad {VALUE}",
            retryable=True,
            usage=Usage(),
            evidence=tuple(evidence),
            refuted_answer=VALUE,
        ),
    ]


def test_no_end_of_a_run_holds_a_secret() -> None:
    evidence = [Evidence(check=f"c {VALUE}", outcome="passed", detail=VALUE, code=f"assert {VALUE!r}")]
    for ending in leaky(evidence):
        clean = without_secrets(ending, Redactor({VALUE: SECRET.placeholder}))
        assert VALUE not in repr(clean)
        assert repr(clean).count(SECRET.placeholder) == repr(ending).count(VALUE)
