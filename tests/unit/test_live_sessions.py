"""Sessions: tickets, refreshing by one caller, ends, and the encrypted file."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from live.accounts import Tokens
from live.sessions import (
    ABSOLUTE_SECONDS,
    IDLE_SECONDS,
    TICKET_SECONDS,
    Session,
    SessionBook,
    SessionEndedError,
)
from live.vault import Vault
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Auth:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.refreshed: list[str] = []
        self.signed_out: list[str] = []
        self.problem: Exception | None = None

    async def refresh(self, refresh_token: str) -> Tokens:
        self.refreshed.append(refresh_token)
        await asyncio.sleep(0)
        if self.problem is not None:
            raise self.problem
        return tokens(f"a{len(self.refreshed)}", self.clock.now + 3600, refresh=f"r{len(self.refreshed)}")

    async def sign_out(self, access_token: str) -> None:
        self.signed_out.append(access_token)


class Memory:
    def __init__(self) -> None:
        self.value: Any = None

    def load(self) -> Any:
        return self.value

    def save(self, value: Any) -> None:
        self.value = value


def tokens(access: str, expires_at: float, refresh: str = "r0") -> Tokens:
    return Tokens(
        user_id="u", email="me@example.org", access_token=access, refresh_token=refresh, expires_at=expires_at
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auth(clock: Clock) -> Auth:
    return Auth(clock)


@pytest.fixture
def book(clock: Clock, auth: Auth) -> SessionBook:
    return SessionBook(auth, Memory(), clock)


async def opened(book: SessionBook, clock: Clock, seconds: float = 3600) -> tuple[str, Session]:
    ticket = await book.open(tokens("a0", clock.now + seconds))
    cookie = book.claim(ticket)
    assert cookie is not None
    session = book.find(cookie)
    assert session is not None
    return cookie, session


async def test_a_ticket_works_once_and_not_for_long(book: SessionBook, clock: Clock) -> None:
    ticket = await book.open(tokens("a0", clock.now + 3600))
    cookie = book.claim(ticket)
    assert cookie is not None
    assert len(cookie) >= 43  # 256 bits in base64
    assert book.claim(ticket) is None
    late = await book.open(tokens("a0", clock.now + 3600))
    clock.now += TICKET_SECONDS + 1
    assert book.claim(late) is None
    assert book.find(None) is None
    assert book.find("guess") is None


async def test_the_cookie_itself_is_not_kept(clock: Clock, auth: Auth) -> None:
    memory = Memory()
    book = SessionBook(auth, memory, clock)
    cookie, _ = await opened(book, clock)
    assert cookie not in repr(memory.value)


async def test_one_caller_refreshes_for_all(book: SessionBook, auth: Auth, clock: Clock) -> None:
    _, session = await opened(book, clock, seconds=30)
    found = await asyncio.gather(*(book.token(session) for _ in range(10)))
    assert set(found) == {"a1"}
    assert auth.refreshed == ["r0"]
    assert await book.token(session) == "a1"


async def test_a_used_up_refresh_token_ends_the_session(book: SessionBook, auth: Auth, clock: Clock) -> None:
    cookie, session = await opened(book, clock, seconds=30)
    ended: list[Session] = []
    book.on_closed(ended.append)
    auth.problem = InvalidInputError("used")
    with pytest.raises(SessionEndedError):
        await book.token(session)
    assert book.find(cookie) is None
    assert ended == [session]


async def test_without_an_answer_the_old_token_serves_until_its_end(
    book: SessionBook, auth: Auth, clock: Clock
) -> None:
    _, session = await opened(book, clock, seconds=30)
    auth.problem = StoreUnavailableError("no answer")
    assert await book.token(session) == "a0"
    clock.now += 31
    with pytest.raises(StoreUnavailableError):
        await book.token(session)
    assert book.alive(session)


@pytest.mark.parametrize(
    ("step", "limit"), [(IDLE_SECONDS + 1, 1), (IDLE_SECONDS - 1, ABSOLUTE_SECONDS / IDLE_SECONDS + 1)]
)
async def test_sessions_end_when_idle_and_in_any_case(
    book: SessionBook, clock: Clock, step: float, limit: float
) -> None:
    cookie, _ = await opened(book, clock)
    visits = 0
    while book.find(cookie) is not None:
        clock.now += step
        visits += 1
        assert visits < 10
    assert visits <= limit + 1


async def test_signing_out_ends_it_everywhere(book: SessionBook, auth: Auth, clock: Clock) -> None:
    cookie, session = await opened(book, clock)
    assert book.of_user("u") is session
    await book.close(session)
    assert book.find(cookie) is None
    assert book.of_user("u") is None
    assert auth.signed_out == ["a0"]
    with pytest.raises(SessionEndedError):
        await book.token(session)


async def test_sessions_of_another_version_are_left_out(
    auth: Auth, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory()
    cookie, _ = await opened(SessionBook(auth, memory, clock), clock)
    [entry] = memory.value
    unknown = {**entry, "key": "other", "tokens": {**entry["tokens"], "colour": "red"}}
    memory.value = [unknown, {"key": "short"}, "not an object", {**entry, "seen_at": "yesterday"}, entry]
    book = SessionBook(auth, memory, clock)
    await book.restore()
    assert book.find(cookie) is not None
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 4
    assert entry["tokens"]["access_token"] not in caplog.text


async def test_sessions_outlive_a_restart(tmp_path: Path, auth: Auth, clock: Clock) -> None:
    folder = tmp_path / "page"
    first = SessionBook(auth, Vault(folder), clock)
    cookie, _ = await opened(first, clock)
    second = SessionBook(auth, Vault(folder), clock)
    await second.restore()
    found = second.find(cookie)
    assert found is not None
    assert found.tokens.email == "me@example.org"
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"me@example.org" not in file.read_bytes()
    (folder / "sessions.key").write_bytes(b"broken")
    third = SessionBook(auth, Vault(folder), clock)
    await third.restore()
    assert third.find(cookie) is None
