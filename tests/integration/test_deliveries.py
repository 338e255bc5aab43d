"""Deliveries as receivers meet them: a webhook's socket, a mail server, the queue itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default as modern

import asyncpg
import httpx
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from live.supabase_access import SupabaseAccess
from pythonic_assistant.adapters.egress.policy import Route
from pythonic_assistant.adapters.mail import Letter, Mailer, read_mail_server
from pythonic_assistant.adapters.store.supabase_deliveries import SupabaseDeliveries
from pythonic_assistant.adapters.store.supabase_secrets import SupabaseSecrets
from pythonic_assistant.domain.errors import PermanentError, RetryableError
from tests.acceptance.page_world import free_port
from tests.embedded_fixtures import RunningSupabase
from tests.integration.rules_world import HOST, URL, RulesWorld
from tests.servers.receiver import Receiver, receiving
from worker.deliveries import Deliverer
from worker.webhook import ANSWER_BYTES, WebhookSender

pytestmark = pytest.mark.timeout(60)


@dataclass
class Postbox:
    """A mail server's handler: takes letters, or refuses them as told."""

    letters: list[bytes] = field(default_factory=list)
    answers: list[str] = field(default_factory=lambda: ["250 OK"])
    port: int = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.letters.append(bytes(envelope.content or b""))
        return answer


@pytest.fixture
async def world(embedded_supabase: RunningSupabase) -> AsyncIterator[RulesWorld]:
    made = RulesWorld(await asyncpg.connect(embedded_supabase.database_url))
    await made.begin()
    yield made
    await made.end()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
def postbox() -> Iterator[Postbox]:
    box = Postbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port(), ready_timeout=20)
    controller.start()
    box.port = controller.port
    yield box
    controller.stop()


class Delivering:
    """A worker's deliverer on the real API, and what the database says of the person's deliveries."""

    def __init__(
        self, world: RulesWorld, backend: RunningSupabase, routes: tuple[Route, ...], mail: int
    ) -> None:
        self.world, self.backend, self.routes, self.mail = world, backend, routes, mail

    async def __aenter__(self) -> Delivering:
        self.http = httpx.AsyncClient(timeout=20, trust_env=False)
        access = SupabaseAccess(url=self.backend.url, publishable_key=self.backend.secret_key, http=self.http)
        client = await access.client()
        server = read_mail_server(f"smtp://127.0.0.1:{self.mail or 25}", "Pythonic <tasks@pythonic.dev>")
        self.deliverer = Deliverer(
            SupabaseDeliveries(
                client, worker=self.world.worker, can_mail=bool(self.mail), allowed=(), lease_seconds=60
            ),
            secrets=SupabaseSecrets(client),
            key=self.world.key,
            webhooks=WebhookSender(routes=self.routes, seconds=5),
            mailer=Mailer(server) if self.mail else None,
        )
        self.serving = asyncio.create_task(self.deliverer.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.deliverer.stop()
        await self.serving
        await self.http.aclose()

    async def until(self, look: Callable[[list[asyncpg.Record]], bool]) -> list[asyncpg.Record]:
        """Wait for rows as hoped for; every wait of theirs is over at once."""
        until = time.monotonic() + 20
        while True:
            rows = await self.world.deliveries()
            if look(rows):
                return rows
            assert time.monotonic() < until, [dict(row) for row in rows]
            await self.world.due()
            self.deliverer.wake()
            await asyncio.sleep(0.05)


def to(receiver: Receiver) -> tuple[Route, ...]:
    return (Route(host=HOST, address="127.0.0.1", port=receiver.port, tls=False),)


def ended(rows: list[asyncpg.Record]) -> bool:
    return bool(rows) and all(row["state"] in ("delivered", "dead") for row in rows)


async def test_a_webhook_is_signed_and_keeps_its_id_until_it_is_taken(
    world: RulesWorld, receiver: Receiver, embedded_supabase: RunningSupabase
) -> None:
    receiver.statuses, receiver.body = [500, 302, 200], b"not yet " * 10_000
    receiver.extra = f"Location: https://{HOST}/elsewhere\r\n"
    await world.rule(target={"url": f"{URL}?a=b"})
    task = await world.fail("An *odd* prompt\nwith ünïcödé")
    async with Delivering(world, embedded_supabase, to(receiver), 0) as delivering:
        (row,) = await delivering.until(ended)
    assert (row["state"], row["response_status"], row["tries"]) == ("delivered", 200, 3)
    assert len(receiver.heard) == 3, "a redirect is not followed"
    assert {request.headers["webhook-id"] for request in receiver.heard} == {str(row["id"])}
    assert len({request.body for request in receiver.heard}) == 1
    for request in receiver.heard:
        assert request.line == "POST /tasks?a=b HTTP/1.1"
        assert request.headers["host"] == HOST
        sent = int(request.headers["webhook-timestamp"])
        assert abs(time.time() - sent) < 60
        # As the specification says it, not as the program does.
        key = base64.b64decode(world.signing[len("whsec_") :])
        content = b".".join([str(row["id"]).encode(), str(sent).encode(), request.body])
        signature = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
        assert request.headers["webhook-signature"] == f"v1,{signature}"
    told = json.loads(receiver.heard[0].body)
    assert told["type"] == "task.failed"
    data = told["data"]
    assert (data["task_id"], data["state"], data["old_state"]) == (task, "failed", "running")
    assert (data["error"], data["prompt"], data["rule"]) == ("it broke", "An *odd* prompt\nwith ünïcödé", "R")
    assert await world.connection.fetchval(
        "select last_used_at from public.secrets where user_id = $1", world.person
    )
    # The secret is in no row.
    for table in ("event_rules", "deliveries", "secrets", "task_changes"):
        found = await world.connection.fetchval(
            f"select count(*) from public.{table} t where t::text like '%' || $1 || '%'", world.signing[6:]
        )
        assert found == 0, table


async def test_what_a_receiver_says_is_told_and_410_pauses_the_rule(
    world: RulesWorld, receiver: Receiver, embedded_supabase: RunningSupabase
) -> None:
    receiver.statuses, receiver.body = [410], b"No more, \x1b[31mplease\n" + b"x" * (ANSWER_BYTES * 4)
    rule = await world.rule()
    await world.fail()
    async with Delivering(world, embedded_supabase, to(receiver), 0) as delivering:
        (row,) = await delivering.until(ended)
    assert (row["state"], row["response_status"], row["tries"]) == ("dead", 410, 1)
    assert row["last_error"].startswith("The receiver answered 410: No more, [31mplease xxx")
    assert len(row["last_error"]) < 300
    found = await world.connection.fetchrow("select * from public.event_rules where id = $1", rule)
    assert found["enabled"] is False
    assert "410" in found["paused_because"]


async def test_a_webhook_goes_nowhere_private_and_is_never_unsigned(
    world: RulesWorld, receiver: Receiver, embedded_supabase: RunningSupabase
) -> None:
    sender = WebhookSender(resolve=lambda host, port: answer("10.0.0.5"), seconds=2)
    with pytest.raises(PermanentError, match="not public"):
        await sender.post(URL, {}, b"{}")
    with pytest.raises(PermanentError, match="Port 8443"):
        await sender.post(f"https://{HOST}:8443/", {}, b"{}")
    with pytest.raises(RetryableError, match="cannot be resolved"):
        await WebhookSender(resolve=lambda host, port: failing(), seconds=2).post(URL, {}, b"{}")
    # Somebody who listens and says nothing.
    silent = await asyncio.start_server(listening, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    routes = (Route(host=HOST, address="127.0.0.1", port=port, tls=False),)
    with pytest.raises(RetryableError, match=r"did not answer within 0\.3 s"):
        await WebhookSender(routes=routes, seconds=0.3).post(URL, {}, b"{}")
    silent.close()
    await asyncio.sleep(0.05)  # until it has seen that the sender is gone

    await world.rule()
    await world.fail()
    await world.connection.execute("delete from public.secrets where user_id = $1", world.person)
    async with Delivering(world, embedded_supabase, to(receiver), 0) as delivering:
        (row,) = await delivering.until(ended)
    assert (row["state"], row["tries"]) == ("dead", 1)
    assert "no secret SIGN to sign with any more" in row["last_error"]
    assert receiver.heard == []


async def answer(address: str) -> list[str]:
    return [address]


async def listening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        await reader.read()
    writer.close()


async def failing() -> list[str]:
    raise OSError("no such name")


async def test_an_email_has_one_id_and_tells_what_failed(
    world: RulesWorld, postbox: Postbox, embedded_supabase: RunningSupabase
) -> None:
    await world.mail_is_set_up()
    postbox.answers = ["451 later", "250 OK"]
    await world.fail("Sum up\r\nBcc: everybody@example.org\r\n" + "long " * 40)
    async with Delivering(world, embedded_supabase, (), postbox.port) as delivering:
        (row,) = await delivering.until(ended)
        assert (row["state"], row["tries"]) == ("delivered", 2)
        first, second = (message_from_bytes(letter, policy=modern) for letter in postbox.letters)
        assert first["Message-ID"] == second["Message-ID"] == f"<{row['id']}@pythonic.dev>"
        assert first["To"] == f"{world.person}@mail.pythonic.dev"
        assert first["From"] == "Pythonic <tasks@pythonic.dev>"
        assert first["Bcc"] is None
        assert first["Subject"].startswith("A task has failed: Sum up Bcc: everybody")
        assert first["Auto-Submitted"] == "auto-generated"
        text = first.get_content()
        assert "it broke" in text
        assert "rule “Tell me when a task fails”" in text

        postbox.answers = ["550 no such person"]
        await world.fail("Another")
        rows = await delivering.until(lambda rows: len(rows) == 2 and ended(rows))
        assert (rows[1]["state"], rows[1]["tries"]) == ("dead", 1)
        assert rows[1]["last_error"].endswith("550 no such person")


async def test_a_mail_server_that_refuses_is_told_of_without_the_password() -> None:
    def authenticate(*_: object) -> AuthResult:
        return AuthResult(success=False, handled=False)

    box = Postbox()
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=free_port(),
        authenticator=authenticate,
        auth_require_tls=False,
        ready_timeout=20,
    )
    controller.start()
    try:
        port = controller.port
        letter = Letter(id="1", to="a@b.org", subject="s", text="t", at=datetime.now(UTC))
        mailer = Mailer(read_mail_server(f"smtp://me:wr%40ng@127.0.0.1:{port}", "t@b.org"))
        with pytest.raises(RetryableError, match="refuses the user or the password"):
            await mailer.send(letter)
        with pytest.raises(RetryableError, match="does not answer"):
            await Mailer(read_mail_server("smtps://127.0.0.1:9", "t@b.org")).send(letter)
    finally:
        controller.stop()
    assert box.letters == []


async def test_a_rule_starts_a_task_once_however_often_its_worker_dies(
    world: RulesWorld, embedded_supabase: RunningSupabase
) -> None:
    await world.rule(
        "Explain", "task", target={"prompt": "{{why}} did {task_id} fail: {error}? It was: {prompt}"}
    )
    task = await world.fail("a {answer} b")
    async with (
        Delivering(world, embedded_supabase, (), 0),
        Delivering(world, embedded_supabase, (), 0) as delivering,
    ):
        (row,) = await delivering.until(ended)
        # As if the answer to the worker had been lost: what it repeats is refused.
        await world.connection.execute("select public.claim_deliveries($1, false, '{}', 9, 9)", world.worker)
    made = await world.connection.fetch("select * from public.tasks where caused_by = $1", task)
    assert [row["prompt"] for row in made] == [f"{{why}} did {task} fail: it broke? It was: a {{answer}} b"]
    assert row["made_task_id"] == made[0]["id"]


async def test_a_hint_wakes_and_an_idle_deliverer_keeps_silent(
    world: RulesWorld, receiver: Receiver, embedded_supabase: RunningSupabase
) -> None:
    await world.rule()
    async with Delivering(world, embedded_supabase, to(receiver), 0) as delivering:
        await asyncio.sleep(0.5)
        await world.fail()
        await asyncio.sleep(0.5)
        assert receiver.heard == [], "nobody looks without a hint or a time that has come"
        delivering.deliverer.wake()
        await delivering.until(ended)
    assert len(receiver.heard) == 1
