"""Asking: what is sent again after a lost reply stays one task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages import visit
from pythonic_assistant.domain.errors import StoreUnavailableError


class Desk:
    """Takes what is asked; loses its first replies."""

    def __init__(self, lost: int) -> None:
        self.lost = lost
        self.asked: list[tuple[str, str]] = []
        self.threads: list[tuple[str, ...]] = []
        self.given: list[tuple[str | None, dict[str, int]]] = []

    async def upload_all(self, files: Sequence[Any]) -> list[dict[str, Any]]:
        assert not files
        return []

    async def begin_thread(self, assistant_id: str, hosts: tuple[str, ...]) -> str:
        assert assistant_id == "a"
        self.threads.append(hosts)
        return f"begun-{len(self.threads)}"

    async def allow(self, thread_id: str, hosts: tuple[str, ...]) -> None:
        assert thread_id == "begun-1"
        self.threads[0] = hosts

    async def enqueue(
        self, prompt: str, *, dedupe_key: str, thread_id: str | None, limits: dict[str, int], **_: Any
    ) -> Any:
        self.asked.append((prompt, dedupe_key))
        self.given.append((thread_id, limits))
        if len(self.asked) <= self.lost:
            raise StoreUnavailableError("Supabase did not answer when asked to ask the task: ReadTimeout.")
        return SimpleNamespace(id=len(self.asked), thread_id="t")


def script(person, assistant):  # AppTest runs its lines alone, where no type is known
    from pages import chat

    chat._ask(person, None, assistant)


@pytest.fixture
def desk() -> Desk:
    return Desk(lost=2)


@pytest.fixture
def app(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    def wait_for(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    monkeypatch.setattr(visit, "wait_for", wait_for)
    person = SimpleNamespace(desk=desk, added=lambda _: None)
    made = AppTest.from_function(script, args=(person, SimpleNamespace(id="a")), default_timeout=20)
    return made.run()


def test_a_prompt_that_is_sent_again_after_a_lost_reply_stays_one_task(app: AppTest, desk: Desk) -> None:
    for prompt in ("Add 1 and 2", "Add 1 and 2", "Add 1 and 2", "Add 1 and 2"):
        app.chat_input[0].set_value(prompt).run()
        assert not app.exception
    keys = [key for _, key in desk.asked]
    assert keys[0] == keys[1] == keys[2]  # lost, lost, arrived
    assert keys[3] != keys[2]  # asked anew


def test_another_prompt_is_another_task(app: AppTest, desk: Desk) -> None:
    app.chat_input[0].set_value("Add 1 and 2").run()
    assert "send it again" in app.error[0].value
    assert "ReadTimeout" not in app.error[0].value
    app.chat_input[0].set_value("Add 1 and 3").run()
    assert desk.asked[0][1] != desk.asked[1][1]


def test_a_refusal_stays_until_it_is_dismissed_or_something_is_sent(app: AppTest, desk: Desk) -> None:
    app.chat_input[0].set_value("x" * 20_001).run()
    assert desk.asked == []
    assert "20,001 characters" in app.error[0].value
    app.run()
    assert len(app.error) == 1
    app.button[0].click().run()
    assert len(app.error) == 0
    app.chat_input[0].set_value("Add 1 and 2").run()
    assert len(app.error) == 1
    desk.lost = 0
    app.chat_input[0].set_value("Add 1 and 2").run()
    assert len(app.error) == 0


def test_hosts_that_were_allowed_before_the_first_send_are_those_of_one_thread(
    app: AppTest, desk: Desk
) -> None:
    app.session_state["wanted_hosts"] = ("a.org",)
    app.session_state["own_limits"] = {"seconds": 60}
    app.chat_input[0].set_value("Add 1 and 2").run()  # lost
    app.session_state["wanted_hosts"] = ("a.org", "b.org")
    app.chat_input[0].set_value("Add 1 and 2").run()  # lost again
    app.chat_input[0].set_value("Add 1 and 2").run()
    assert not app.exception
    assert desk.threads == [("a.org", "b.org")]
    assert desk.given == [("begun-1", {"seconds": 60})] * 3
    app.chat_input[0].set_value("Add 1 and 3").run()
    assert desk.threads == [("a.org", "b.org")]
    assert desk.given[3] == (None, {})  # nothing is left over for the next one
