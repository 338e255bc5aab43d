"""Deciding in a terminal: `pythonic ask` that waits, `waiting`, `approve`, `refuse`, `answer`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.embedded_fixtures import RunningSupabase
from tests.integration.ledger_desk import Desk

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
MAIL: dict[str, Any] = {
    "name": "send_mail",
    "risk": "irreversible",
    "preview": {
        "form": "fields",
        "fields": [
            {"name": "to", "value": "marta@example.org\u202e"},
            {"name": "body", "value": "Dear Marta,\n\x1b[2J[9] Approved\nBye"},
        ],
    },
    "standing": {"tool": "send_mail", "recipient": {"to": "marta@example.org"}},
}


@dataclass(frozen=True)
class Person:
    """Somebody with an account, at a terminal."""

    id: UUID
    environment: dict[str, str]
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pythonic_assistant.cli", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env=self.environment,
        )

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode in (0, 3), done.stderr
        return json.loads(done.stdout)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, person: Person, *arguments: str) -> None:
        self.shown = ""
        self._us, them = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pythonic_assistant.cli", *arguments],
            stdin=them,
            stdout=them,
            stderr=them,
            cwd=person.folder,
            env=person.environment | {"TERM": "dumb", "COLUMNS": "80"},
            start_new_session=True,
        )
        os.close(them)

    def until(self, words: str, seconds: float = 40) -> None:
        """Read until it has shown these words."""
        end = time.monotonic() + seconds
        while words not in self.shown:
            assert time.monotonic() < end, self.shown
            if select.select([self._us], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self._us, 65536).decode(errors="replace")
                except OSError as error:
                    assert error.errno == errno.EIO  # the other end is closed
                    assert words in self.shown, self.shown

    def type(self, line: str) -> None:
        os.write(self._us, f"{line}\n".encode())

    def end(self) -> int:
        return self._process.wait(40)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(5)
        with contextlib.suppress(OSError):
            os.close(self._us)


@pytest.fixture
async def desk(embedded_supabase: RunningSupabase) -> AsyncIterator[Desk]:
    connection = await asyncpg.connect(embedded_supabase.database_url)
    made = Desk(connection, embedded_supabase.url)
    made.name = "default"  # where the command line asks
    yield made
    await connection.close()


def somebody(supabase: RunningSupabase, folder: Path) -> Person:
    account = supabase.sign_up()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SUPABASE_URL": supabase.url,
        "SUPABASE_PUBLISHABLE_KEY": supabase.publishable_key,
        "PYTHONIC_EMAIL": account["email"],
        "PYTHONIC_PASSWORD": account["password"],
    }
    return Person(UUID(account["user"]["id"]), environment, folder)


async def claimed(desk: Desk, person: Person) -> tuple[int, int]:
    """Wait for a task of this person, and claim it; returns its id and its attempt."""
    end = time.monotonic() + 40
    while time.monotonic() < end:
        for task in await desk.claim():
            if UUID(task["user_id"]) == person.id:
                return task["id"], task["attempt"]
        await asyncio.sleep(0.1)
    raise AssertionError("nothing was asked")


async def asked(desk: Desk, person: Person, **effect: Any) -> tuple[int, int]:
    """A task of this person's that waits for a decision; returns its id and the approval's."""
    task = await desk.connection.fetchval(
        "insert into public.tasks (user_id, prompt) values ($1, 'Write to Marta') returning id", person.id
    )
    while await desk.state(task) != "running":
        await desk.claim()
    said = await desk.begin(task, **effect)
    assert said["do"] == "ask"
    assert await desk.wait(task)
    return task, said["approval"]


async def test_somebody_at_the_terminal_is_asked_and_the_task_goes_on(
    embedded_supabase: RunningSupabase, desk: Desk, tmp_path: Path
) -> None:
    person = somebody(embedded_supabase, tmp_path)
    terminal = Terminal(person, "ask", "Write to Marta")
    try:
        task, attempt = await claimed(desk, person)
        said = await desk.begin(task, attempt, **MAIL)
        assert await desk.wait(task, attempt)
        terminal.until("always = y and from now on")
        assert "to: marta@example.org⟨U+202E⟩" in terminal.shown
        assert "│ ⟨U+001B⟩[2J[9] Approved" in terminal.shown
        assert "\x1b[2J" not in terminal.shown
        terminal.type("maybe")
        terminal.until("Not understood")
        assert await desk.state(task) == "waiting"
        terminal.type("y")
        terminal.until("Approved")
        assert (await claimed(desk, person)) == (task, attempt + 1)
        assert (await desk.begin(task, attempt + 1, **MAIL))["do"] == "go"
        assert await desk.end(task, said["key"], attempt=attempt + 1, result={"id": 1})

        # Decided elsewhere: the terminal says so and asks no more.
        question = {
            "name": "ask_person",
            "risk": "read",
            "question": "Which colour?",
            "choices": ["red", "blue"],
        }
        (second,) = [(await desk.begin(task, attempt + 1, **question))["approval"]]
        assert await desk.wait(task, attempt + 1)
        terminal.until("the number of an answer")
        done = person.run("answer", str(second), "blue")
        assert done.stdout == f"Answered {second}; its task is queued now.\n", done.stderr
        terminal.until("Answered: blue")
        assert (await claimed(desk, person)) == (task, attempt + 2)
        assert (await desk.begin(task, attempt + 2, **question))["result"] == "blue"
        await desk.connection.fetchval(
            "select public.finish_task($1, $2, $3, 'It is sent.', 'unverified', '[]', '{}')",
            desk.worker,
            task,
            attempt + 2,
        )
        terminal.until("It is sent.")
        assert terminal.end() == 0
    finally:
        terminal.close()


async def test_json_says_that_it_waits_and_commands_decide(
    embedded_supabase: RunningSupabase, desk: Desk, tmp_path: Path
) -> None:
    person = somebody(embedded_supabase, tmp_path)
    task, approval = await asked(desk, person, **MAIL)
    told = person.json("follow", str(task))
    assert (told["state"], [one["id"] for one in told["approvals"]]) == ("waiting", [approval])
    assert told["approvals"][0]["preview"] == MAIL["preview"]
    assert told["approvals"][0]["choices"] == ["approve", "refuse"]
    shown = person.run("waiting")
    assert f"pythonic approve {approval} --always" in shown.stdout
    assert "marta@example.org⟨U+202E⟩" in shown.stdout

    done = person.run("approve", str(approval), "--always")
    assert done.stdout == f"Approved {approval}; its task is queued now.\n", done.stderr
    again = person.run("refuse", str(approval), "no")
    assert again.returncode == 2
    assert "This is decided already: approved, on " in again.stderr
    told = person.json("waiting")
    assert told["waiting"] == []
    assert told["standing_rules"][0] | {"id": 0} == {"id": 0, **MAIL["standing"]}

    _, unknown = await asked(desk, person, **MAIL | {"name": "pay", "standing": None})
    assert "Decide with approve or refuse." in person.run("answer", str(unknown), "yes").stderr
    assert person.run("refuse", str(unknown), "too much").returncode == 0


async def test_another_person_neither_sees_nor_decides(
    embedded_supabase: RunningSupabase, desk: Desk, tmp_path: Path
) -> None:
    person, other = somebody(embedded_supabase, tmp_path), somebody(embedded_supabase, tmp_path)
    task, approval = await asked(desk, person, **MAIL)
    assert other.json("waiting") == {"waiting": [], "standing_rules": []}
    for command in (("approve",), ("refuse",), ("answer",)):
        text = ["x"] if command != ("approve",) else []
        done = other.run(*command, str(approval), *text)
        assert done.returncode == 2
        assert f"There is no question {approval} to you." in done.stderr
    assert "There is no task" in other.run("follow", str(task), "--json").stderr
    assert await desk.state(task) == "waiting"
    person.run("refuse", str(approval), "never").check_returncode()
    rows = await desk.connection.fetch("select state, answer from public.approvals where id = $1", approval)
    assert [tuple(row) for row in rows] == [("refused", "never")]
