"""A person's feed against a database that fails, and with several browsers signed in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from live.accounts import Accounts, Tokens
from live.desk import Desk
from live.person import Person
from live.rows import TaskRow, task_row
from live.sessions import Session, SessionBook, SessionEndedError
from live.supabase_access import SupabaseAccess
from live.wording import problem
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError

NOW = 1_000_000.0
# Port 9 (discard): nobody listens there, and the tests' requests never leave the process.
NOWHERE = "http://127.0.0.1:9"
RUNNING: dict[str, Any] = {
    "id": 7,
    "thread_id": "t",
    "prompt": "p",
    "state": "running",
    "attempt": 1,
    "created_at": "2026-11-20T12:00:00+00:00",
}
Answer = Callable[[httpx.Request], httpx.Response]


class Backend:
    """Answers every request by `answer`, and remembers it."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: httpx.Response(200, json=[])
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer(request)


class Auth:
    """Refreshes everything but what was revoked."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()

    async def refresh(self, refresh_token: str) -> Tokens:
        if refresh_token in self.revoked:
            raise InvalidInputError("revoked")
        return tokens(f"new-{refresh_token}", NOW + 3600)

    async def sign_out(self, access_token: str) -> None:
        self.revoked.add(access_token)


class NoStorage:
    def load(self) -> Any:
        return None

    def save(self, value: Any) -> None:
        json.dumps(value)


def tokens(name: str, expires_at: float) -> Tokens:
    return Tokens(
        user_id="u",
        email="me@example.org",
        access_token=f"access-{name}",
        refresh_token=name,
        expires_at=expires_at,
    )


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
async def access(backend: Backend) -> AsyncIterator[SupabaseAccess]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(backend)) as http:
        yield SupabaseAccess(url=NOWHERE, publishable_key="sb_publishable_x", http=http)


@pytest.fixture
def auth() -> Auth:
    return Auth()


@pytest.fixture
def book(auth: Auth) -> SessionBook:
    return SessionBook(auth, NoStorage(), lambda: NOW)


async def token() -> str:
    return "token"


async def sign_in(book: SessionBook, name: str, seconds: float) -> Session:
    cookie = book.claim(await book.open(tokens(name, NOW + seconds)))
    session = book.find(cookie)
    assert session is not None
    return session


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"code": "40P01", "message": "deadlock detected"}),
        (500, {"code": "57014", "message": "canceling statement due to statement timeout"}),
        (500, {"code": "53300", "message": "too many connections"}),
        (401, {"code": "PGRST301", "message": "JWT expired"}),
        (503, {"code": "restarting", "message": "The database restarts."}),
    ],
)
async def test_what_passes_by_itself_is_not_the_persons_mistake(
    backend: Backend, access: SupabaseAccess, status: int, body: dict[str, str]
) -> None:
    backend.answer = lambda _: httpx.Response(status, json=body)
    with pytest.raises(StoreUnavailableError) as raised:
        await Desk(access, "u", token).tasks([7])
    assert problem(raised.value) == "The database does not answer: try again in a moment."


async def test_the_databases_own_sentence_is_told(backend: Backend, access: SupabaseAccess) -> None:
    sentence = "There is no task 7 of yours."
    backend.answer = lambda _: httpx.Response(403, json={"code": "42501", "message": sentence})
    with pytest.raises(InvalidInputError) as raised:
        await Desk(access, "u", token).cancel(7)
    assert problem(raised.value) == sentence


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(500, json={"code": "40P01", "message": "deadlock detected"}),
        httpx.Response(403, json={"code": "42501", "message": "permission denied for table tasks"}),
    ],
)
async def test_a_task_that_ended_is_shown_although_its_row_could_not_be_read_at_first(
    backend: Backend,
    access: SupabaseAccess,
    book: SessionBook,
    failure: httpx.Response,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("live.person._RETRY_SECONDS", 0.01)
    await sign_in(book, "r", 3600)
    person = Person(access, book, "u")
    person.feed.put_task(task_row(RUNNING))
    reads = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal reads
        if not request.url.path.endswith("/tasks"):
            return httpx.Response(200, json=[])
        reads += 1
        return failure if reads <= 2 else httpx.Response(200, json=[{**RUNNING, "state": "succeeded"}])

    backend.answer = answer

    def shown() -> TaskRow:
        view = person.feed.task(7)
        assert view is not None
        return view.row

    running = asyncio.create_task(person.run())
    try:
        heard = {"thread_id": "t", "state": "succeeded", "attempt": 1}
        person.heard_tasks({"tasks": [{"task_id": 6, **heard}, {"task_id": 7, **heard}]})
        await until(lambda: shown().state == "succeeded")
        assert reads == 3
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_one_browsers_revoked_session_does_not_end_the_others(
    access: SupabaseAccess, book: SessionBook, auth: Auth
) -> None:
    longer, shorter = await sign_in(book, "longer", 50), await sign_in(book, "shorter", 40)
    person = Person(access, book, "u")
    auth.revoked.add("longer")
    assert await person.token() == "access-new-shorter"
    assert not book.alive(longer)
    assert book.alive(shorter)
    shorter.tokens = replace(shorter.tokens, expires_at=NOW)
    auth.revoked.add(shorter.tokens.refresh_token)
    with pytest.raises(SessionEndedError):
        await person.token()


async def test_a_feed_ends_with_the_last_session(
    access: SupabaseAccess, book: SessionBook, auth: Auth
) -> None:
    await sign_in(book, "only", 30)
    auth.revoked.add("only")
    person = Person(access, book, "u")
    await asyncio.wait_for(person.run(), 5)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error_code": "refresh_token_already_used", "msg": "Already used"}, InvalidInputError),
        (401, {"error_code": "bad_jwt", "msg": "bad"}, InvalidInputError),
        (403, {"error_code": "user_banned", "msg": "banned"}, InvalidInputError),
        (429, {"error_code": "over_request_rate_limit", "msg": "slow down"}, StoreUnavailableError),
        (404, {"msg": "no such route"}, StoreUnavailableError),
        (418, "<html>a proxy</html>", StoreUnavailableError),
        (503, {"msg": "restarting"}, StoreUnavailableError),
    ],
)
async def test_only_a_refusal_of_the_token_itself_ends_a_session(
    backend: Backend, access: SupabaseAccess, status: int, body: Any, error: type[Exception]
) -> None:
    backend.answer = lambda _: (
        httpx.Response(status, text=body) if isinstance(body, str) else httpx.Response(status, json=body)
    )
    with pytest.raises(error):
        await Accounts(access).refresh("r")


async def test_signing_in_too_often_and_without_an_answer(backend: Backend, access: SupabaseAccess) -> None:
    backend.answer = lambda _: httpx.Response(429, json={"error_code": "over_request_rate_limit", "msg": "x"})
    with pytest.raises(InvalidInputError, match="wait a minute"):
        await Accounts(access).sign_in("me@example.org", "secret")
    backend.answer = lambda _: httpx.Response(418, text="<html>a proxy</html>")
    with pytest.raises(StoreUnavailableError):
        await Accounts(access).sign_in("me@example.org", "secret")


async def test_a_threads_files_are_removed_before_its_row(backend: Backend, access: SupabaseAccess) -> None:
    tasks = [
        {
            "id": 7,
            "inputs": [{"name": "a.csv", "storage_path": "u/uploads/1/a.csv"}],
            "artifacts": [{"storage_path": "u/tasks/7/plot.png"}],
        },
        {"id": 8, "inputs": [{"name": "a.csv", "storage_path": "u/uploads/1/a.csv"}], "artifacts": []},
    ]
    kept = [{"storage_path": "u/variables/t/sales.parquet"}]

    def answer(request: httpx.Request) -> httpx.Response:
        rows = {"/rest/v1/tasks": tasks, "/rest/v1/variables": kept}.get(request.url.path, [])
        return httpx.Response(200, json=rows if request.method == "GET" else [])

    backend.answer = answer
    await Desk(access, "u", token).delete_thread("t")
    variables, read, files, row = backend.requests
    assert (variables.method, variables.url.params["thread_id"]) == ("GET", "eq.t")
    assert (read.method, read.url.params["thread_id"]) == ("GET", "eq.t")
    assert (files.method, files.url.path) == ("DELETE", "/storage/v1/object/artifacts")
    assert json.loads(files.content) == {
        "prefixes": ["u/variables/t/sales.parquet", "u/uploads/1/a.csv", "u/tasks/7/plot.png"]
    }
    assert (row.method, row.url.path) == ("DELETE", "/rest/v1/threads")
