"""The controls for hosts, limits and secrets: what they keep, what they say, what they do not keep."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from live.budget_desk import Spending
from live.feed import Feed
from live.secret_desk import SecretRow
from pages import visit
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError

CANARY = "ghp_canary_0123456789"


class Secrets:
    """Keeps what is saved; refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.rows: dict[str, SecretRow] = {}
        self.values: list[str] = []
        self.refusal: Exception | None = None

    async def secrets(self) -> tuple[SecretRow, ...]:
        return tuple(self.rows[name] for name in sorted(self.rows))

    known = secrets

    async def save(self, name: str, hosts: Sequence[str], value: str, *, raw: bool) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.values.append(value)
        self.rows[name] = SecretRow(
            id=f"id-{name}", name=name, hosts=tuple(hosts), raw=raw, updated_at=None, last_used_at=None
        )

    async def remove(self, secret_id: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        del self.rows[secret_id.removeprefix("id-")]


class Budgets:
    """A day on which little was spent."""

    async def known(self) -> Spending:
        return Spending(
            day=date(2026, 11, 21),
            time_zone="UTC",
            ends_at=None,
            cost=0.12,
            tokens=12_300,
            replies=3,
            unpriced=0,
            own_cost=5.0,
            own_tokens=None,
            most_cost=None,
            most_tokens=None,
        )


class Person:
    """Keeps the hosts of one thread."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.budget_desk = Budgets()
        self.secret_desk = Secrets()
        self.hosts: tuple[str, ...] = ()
        self.refusal: Exception | None = None

    async def hosts_of(self, thread_id: str) -> tuple[str, ...]:
        assert thread_id == "t"
        return self.hosts

    async def allow(self, thread_id: str, hosts: tuple[str, ...]) -> None:
        assert thread_id == "t"
        if self.refusal is not None:
            raise self.refusal
        self.hosts = hosts


def access_script(thread_id, assistant):  # AppTest runs its lines alone, where no type is known
    from pages import access

    access.show(thread_id, assistant)


def forgetting_script():
    from types import SimpleNamespace

    import streamlit as st

    from pages import access

    access.show(None, SimpleNamespace(id="a", name="A", hosts=(), limits={}))
    st.button("Forget", key="forget", on_click=access.forget)


def secrets_script(person):  # AppTest runs all of it each time, so the dialog is drawn each time
    from pages import secrets

    secrets._dialog(person)


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Person:
    made = Person()

    def wait_for(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    monkeypatch.setattr(visit, "wait_for", wait_for)
    monkeypatch.setattr(visit, "person", lambda: made)
    return made


def access_of(thread_id: str | None, hosts: tuple[str, ...] = ()) -> AppTest:
    assistant = SimpleNamespace(id="a", name="Billing", hosts=hosts, limits={"memory_bytes": 4 << 30})
    return AppTest.from_function(access_script, args=(thread_id, assistant), default_timeout=20).run()


def allow(app: AppTest, text: str) -> None:
    app.text_input(key="new_host").set_value(text)
    next(one for one in app.button if one.label == "Allow").click().run()
    assert not app.exception


def words(app: AppTest) -> str:
    return "\n".join(str(one.value) for one in (*app.markdown, *app.warning)).replace("\\", "")


def test_hosts_of_a_new_thread_are_kept_until_it_is_there(person: Person) -> None:
    app = access_of(None)
    assert "without internet" in words(app)
    allow(app, "API.GitHub.com, a.example.org")
    assert app.session_state["wanted_hosts"] == ("api.github.com", "a.example.org")
    assert app.text_input(key="new_host").value == ""
    app.button(key="forbid-api.github.com").click().run()
    assert app.session_state["wanted_hosts"] == ("a.example.org",)
    assert person.hosts == ()


def test_hosts_of_a_thread_are_those_of_its_row(person: Person) -> None:
    person.hosts = ("a.example.org",)
    app = access_of("t")
    allow(app, "api.github.com")
    assert person.hosts == ("a.example.org", "api.github.com")
    app.button(key="forbid-a.example.org").click().run()
    assert person.hosts == ("api.github.com",)
    assert "wanted_hosts" not in app.session_state


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("https://api.github.com", "has a scheme"),
        ("*.github.com", "has a wildcard"),
        ("127.0.0.1", "is an address"),
        ("api.github.com:443", "has more than a name in it"),
        ("", "Write a host's name"),
    ],
)
def test_a_bad_host_is_told_in_a_sentence_and_left_to_be_mended(
    person: Person, written: str, sentence: str
) -> None:
    app = access_of("t")
    allow(app, written)
    assert sentence in words(app)
    assert app.text_input(key="new_host").value == written
    assert person.hosts == ()
    allow(app, "api.github.com")
    assert sentence not in words(app)


def test_a_host_that_could_not_be_stored_is_not_shown_as_allowed(person: Person) -> None:
    person.refusal = StoreUnavailableError("ReadTimeout")
    app = access_of("t")
    allow(app, "api.github.com")
    assert "does not answer" in words(app)
    assert "ReadTimeout" not in words(app)
    assert "forbid-api.github.com" not in [one.key for one in app.button]
    assert app.text_input(key="new_host").value == "api.github.com"


def test_secrets_that_become_usable_are_named_and_a_raw_one_warns(person: Person) -> None:
    app = access_of("t", hosts=("db.example.org",))
    assert "No secret of yours" in words(app)
    assert "Billing allows in every thread: db.example.org" in words(app)
    for name, host, raw in (("TOKEN", "api.github.com", False), ("DB_PASSWORD", "db.example.org", True)):
        asyncio.run(person.secret_desk.save(name, (host,), CANARY, raw=raw))
    app.run()
    assert "TOKEN is put in" not in words(app)
    assert "Code sees the value of DB_PASSWORD" in words(app)
    allow(app, "api.github.com")
    assert "TOKEN is put in for api.github.com" in words(app)


def test_limits_are_of_the_next_task_and_a_bad_one_is_told(person: Person) -> None:
    app = access_of(None)
    assert app.number_input(key="limit-memory_bytes-0").placeholder == "usually 4,096"
    app.number_input(key="limit-memory_bytes-0").set_value(-1).run()
    assert "Memory is -1 MiB: write at least 32" in words(app)
    assert "own_limits" not in app.session_state
    app.number_input(key="limit-memory_bytes-0").set_value(64).run()
    assert "write at least" not in words(app)
    assert app.session_state["own_limits"] == {"memory_bytes": 64 << 20}


def test_written_limits_are_gone_after_they_were_forgotten(person: Person) -> None:
    app = AppTest.from_function(forgetting_script, default_timeout=20).run()
    app.number_input(key="limit-seconds-0").set_value(60).run()
    assert app.session_state["own_limits"] == {"seconds": 60}
    app.button(key="forget").click().run()
    app.run()
    assert app.number_input(key="limit-seconds-1").value is None
    assert "own_limits" not in app.session_state


def open_secrets(person: Person) -> AppTest:
    return AppTest.from_function(secrets_script, args=(person,), default_timeout=20).run()


def enter(app: AppTest, button: str, **fields: Any) -> None:
    for name, value in fields.items():
        if name == "raw":
            app.checkbox(key="secret_raw").set_value(value)
        else:
            app.text_input(key=f"secret_{name}").set_value(value)
    app.button(key=f"FormSubmitter:secret-{button}").click().run()
    assert not app.exception


def test_a_secret_is_added_and_its_value_stays_nowhere(person: Person) -> None:
    app = open_secrets(person)
    assert "GITHUB_TOKEN" in app.info[0].value  # an example for those who have none
    enter(app, "Add", name="GITHUB_TOKEN", hosts="api.github.com, uploads.github.com", value=CANARY)
    row = person.secret_desk.rows["GITHUB_TOKEN"]
    assert (row.hosts, row.raw) == (("api.github.com", "uploads.github.com"), False)
    assert person.secret_desk.values == [CANARY]
    assert "is saved" in app.success[0].value
    assert CANARY not in repr(app.session_state)
    assert [one.value for one in app.text_input] == ["", "", ""]


@pytest.mark.parametrize(
    ("hosts", "refusal", "sentence"),
    [
        ("*.github.com", None, "wildcard"),
        ("api.github.com", InvalidInputError("PATH is read by the system itself."), "PATH is read"),
        ("api.github.com", StoreUnavailableError("ReadTimeout"), "does not answer"),
    ],
)
def test_a_value_that_was_not_saved_is_not_kept_either(
    person: Person,
    hosts: str,
    refusal: Exception | None,
    sentence: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    person.secret_desk.refusal = refusal
    app = open_secrets(person)
    with caplog.at_level("DEBUG"):
        enter(app, "Add", name="PATH", hosts=hosts, value=CANARY)
    assert sentence in app.error[0].value
    assert "Enter the value again" in app.error[0].value
    assert CANARY not in repr(app.session_state) + caplog.text
    assert app.text_input(key="secret_name").value == "PATH"


def test_a_secret_is_replaced_by_intention_only(person: Person) -> None:
    app = open_secrets(person)
    enter(app, "Add", name="TOKEN", hosts="a.example.org", value=CANARY, raw=True)
    enter(app, "Add", name="TOKEN", hosts="b.example.org", value="another")
    assert "already" in app.error[0].value
    assert person.secret_desk.rows["TOKEN"].hosts == ("a.example.org",)
    app.button(key="replace-id-TOKEN").click().run()
    assert app.text_input(key="secret_hosts").value == "a.example.org"
    assert app.checkbox(key="secret_raw").value is True
    enter(app, "Replace", hosts="b.example.org", value="another", raw=False)
    assert person.secret_desk.rows["TOKEN"].hosts == ("b.example.org",)
    assert person.secret_desk.values == [CANARY, "another"]


def test_a_secret_is_removed_after_a_question(person: Person) -> None:
    app = open_secrets(person)
    enter(app, "Add", name="TOKEN", hosts="a.example.org", value=CANARY)
    app.button(key="remove-id-TOKEN").click().run()
    app.button(key="keep-id-TOKEN").click().run()
    assert "TOKEN" in person.secret_desk.rows
    app.button(key="remove-id-TOKEN").click().run()
    app.button(key="really-remove-id-TOKEN").click().run()
    assert person.secret_desk.rows == {}
    assert "is removed" in app.success[0].value
