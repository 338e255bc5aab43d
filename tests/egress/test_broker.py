"""The broker: takes listeners for a token, lets go of them with their runner, outlives what visitors do."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pythonic_assistant.adapters.egress.broker import MOST_LISTENERS, EgressBroker, Grant
from pythonic_assistant.adapters.egress.client import BrokerEgress
from pythonic_assistant.domain.effect import Action, Begun, Done, Go, Look, NotAllowed, Place
from pythonic_assistant.domain.errors import ConfigurationError, SandboxUnavailableError
from pythonic_assistant.domain.event import EgressRequested
from tests.egress.conftest import GITHUB, PLAIN, World


@pytest.fixture
async def broker(world: World, tmp_path: Path) -> AsyncIterator[EgressBroker]:
    async with EgressBroker(
        tmp_path / "run" / "egress.sock", routes=world.routes, cafile=world.cafile
    ) as broker:
        yield broker


def runner(grant: Grant) -> BrokerEgress:
    return BrokerEgress(grant.socket, grant.token, grant.certificate, grant.hosts)


async def get(port: int, host: str = PLAIN, method: str = "GET") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"{method} http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        return await reader.read()
    finally:
        writer.transport.abort()


async def unanswered(port: int) -> None:
    """Wait until nobody listens there any more."""
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:  # reset, when it closes in this moment
                return
            writer.transport.abort()
            await asyncio.sleep(0.01)


async def test_a_listener_is_answered_while_its_runner_holds_it(broker: EgressBroker) -> None:
    events: list[EgressRequested] = []
    grant = broker.grant(hosts=[PLAIN], report=events.append)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with runner(grant).serve(listener):
        assert listener.fileno() == -1  # the broker's now
        assert (await get(port)).startswith(b"HTTP/1.1 200")
        assert b" 403 " in await get(port, "evil.example.com")
    await unanswered(port)
    assert [event.outcome for event in events] == ["allowed", "refused"]


async def test_a_broker_that_is_gone_is_told(broker: EgressBroker) -> None:
    grant = broker.grant(hosts=[PLAIN], report=lambda _: None)
    egress = runner(grant)
    async with egress.serve(socket.create_server(("127.0.0.1", 0))):
        await broker.revoke(grant.token)
        with pytest.raises(SandboxUnavailableError, match="does not answer"):
            await egress.at(Place())


async def test_a_token_serves_several_sessions_until_it_is_revoked(broker: EgressBroker) -> None:
    grant = broker.grant(hosts=[PLAIN], report=lambda _: None)
    egress = runner(grant)
    first, second, third = (socket.create_server(("127.0.0.1", 0)) for _ in range(3))
    ports = [listener.getsockname()[1] for listener in (first, second)]
    async with egress.serve(first), egress.serve(second):
        assert all([(await get(port)).startswith(b"HTTP/1.1 200") for port in ports])
        await broker.revoke(grant.token)
        for port in ports:
            await unanswered(port)
        await broker.revoke(grant.token)
        with pytest.raises(SandboxUnavailableError, match="has ended"):
            async with egress.serve(third):
                pass
    assert third.fileno() == -1


async def test_every_request_is_told_before_a_revocation_returns(broker: EgressBroker, world: World) -> None:
    events: list[EgressRequested] = []
    grant = broker.grant(hosts=[PLAIN], report=events.append)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with runner(grant).serve(listener):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET http://{PLAIN}/silent HTTP/1.1\r\nHost: {PLAIN}\r\n\r\n".encode())
        while not world.plain.heard:
            await asyncio.sleep(0.01)
        await broker.revoke(grant.token)
        assert [event.outcome for event in events] == ["failed"]
        assert await reader.read() == b""
        writer.close()


async def test_grants_do_not_mix(broker: EgressBroker) -> None:
    first = broker.grant(hosts=[PLAIN], report=lambda _: None)
    second = broker.grant(hosts=["other.example.net"], secrets=[GITHUB], report=lambda _: None)
    assert first.token != second.token and first.token not in repr(first)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with runner(second).serve(listener):
        assert b" 403 " in await get(port)


async def test_one_grant_has_a_bounded_number_of_listeners(broker: EgressBroker) -> None:
    grant = broker.grant(hosts=[PLAIN], report=lambda _: None)
    egress = runner(grant)
    async with AsyncExitStack() as stack:
        for _ in range(MOST_LISTENERS):
            await stack.enter_async_context(egress.serve(socket.create_server(("127.0.0.1", 0))))
        with pytest.raises(SandboxUnavailableError, match="at the same time"):
            await stack.enter_async_context(egress.serve(socket.create_server(("127.0.0.1", 0))))


async def test_what_is_no_listener_is_not_taken(broker: EgressBroker) -> None:
    grant = broker.grant(hosts=[PLAIN], report=lambda _: None)
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with pytest.raises(SandboxUnavailableError, match="no listening"):
            async with runner(grant).serve(socket.socket(socket.AF_INET, kind)):
                pass


@pytest.mark.parametrize(
    "noise", [b"", b"\n", b"x" * 10_000, b"no-such-token\n", b"\xff\xfe\n", "ü\n".encode()]
)
@pytest.mark.parametrize("descriptors", [0, 1, 3])
async def test_visitors_without_a_token_get_nothing_and_leak_nothing(
    broker: EgressBroker, noise: bytes, descriptors: int
) -> None:
    grant = broker.grant(hosts=[PLAIN], report=lambda _: None)
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX) as visitor, socket.create_server(("127.0.0.1", 0)) as listener:
        visitor.connect(str(grant.socket))
        if noise:
            control = struct.pack("i", listener.fileno()) * descriptors
            visitor.sendmsg([noise], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, control)] if descriptors else [])
        visitor.shutdown(socket.SHUT_WR)
        visitor.setblocking(False)
        answer = b""
        try:
            async with asyncio.timeout(5):
                answer = await asyncio.get_running_loop().sock_recv(visitor, 1000)
        except ConnectionResetError:
            pass
        assert answer != b"\n"  # which would mean yes
    async with asyncio.timeout(5):
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.01)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with runner(grant).serve(listener):
        assert (await get(port)).startswith(b"HTTP/1.1 200")


async def test_a_runner_that_is_killed_takes_its_listener_along(broker: EgressBroker) -> None:
    grant = broker.grant(hosts=[PLAIN], report=lambda _: None)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    code = (
        "import socket, sys, time\n"
        "c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1])\n"
        "socket.send_fds(c, [sys.argv[2].encode() + b'\\n'], [int(sys.argv[3])])\n"
        "assert c.recv(9) == b'\\n'; print('ok', flush=True); time.sleep(60)\n"
    )
    process = await asyncio.create_subprocess_exec(
        "python3", "-c", code, str(grant.socket), grant.token, str(listener.fileno()),
        pass_fds=[listener.fileno()], stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    listener.close()
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ok\n"
    assert (await get(port)).startswith(b"HTTP/1.1 200")
    process.kill()
    await process.wait()
    await unanswered(port)


async def test_a_broker_that_is_gone_is_told_with_what_to_do(tmp_path: Path) -> None:
    async with EgressBroker(tmp_path / "egress.sock") as broker:
        grant = broker.grant(hosts=[PLAIN], report=lambda _: None)
        assert (tmp_path / "egress.sock").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "egress.sock").exists()
    listener = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(SandboxUnavailableError, match="see its log"):
        async with runner(grant).serve(listener):
            pass
    assert listener.fileno() == -1


async def test_a_socket_left_by_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "egress.sock"))
    async with EgressBroker(tmp_path / "egress.sock") as broker:
        grant = broker.grant(hosts=[PLAIN], report=lambda _: None)
        async with runner(grant).serve(socket.create_server(("127.0.0.1", 0))):
            pass


async def test_a_path_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="shorter state folder"):
        async with EgressBroker(tmp_path / ("x" * 120)):
            pass


async def post(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST http://{PLAIN}/ HTTP/1.1\r\nHost: {PLAIN}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: 2\r\n\r\nhi".encode())
        return await reader.read()
    finally:
        writer.transport.abort()


class Written:
    """A ledger that answers as it was told to, and keeps what it was told."""

    def __init__(self, *answers: Begun) -> None:
        self.answers = list(answers)
        self.begun: list[tuple[Action, Place, int]] = []
        self.ended: list[tuple[str, str, Any, str | None, int]] = []
        self.heard: list[Any] = []

    async def begin(self, action: Action, place: Place, *, look: Look | None = None) -> Begun:
        assert look is None
        self.begun.append((action, place, len(self.heard)))
        return self.answers.pop(0)

    async def end(self, key: str, outcome: str, *, result: Any = None, error: str | None = None) -> None:
        self.ended.append((key, outcome, result, error, len(self.heard)))


async def test_what_may_change_something_leaves_only_after_it_is_written_down(
    broker: EgressBroker, world: World
) -> None:
    ledger = Written(Go("key", "idempotent"), NotAllowed("The person refused this action."))
    ledger.heard = world.plain.heard
    grant = broker.grant(hosts=[PLAIN], report=lambda _: None, ledger=ledger)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    place = Place(step_id="s1", execution=2, items=5, serial=3)
    egress = runner(grant)
    async with egress.serve(listener):
        assert b" 200 " in await get(port)
        assert ledger.begun == []
        await egress.at(place)
        assert b" 200 " in await post(port)
        refused = await post(port)
    assert b" 403 " in refused and b"The person refused this action." in refused
    (action, where, heard), _ = ledger.begun
    assert (action.name, action.risk, where, heard) == (f"POST {PLAIN}/", "write", place, 1)
    ((key, outcome, record, error, heard),) = ledger.ended
    assert (key, outcome, record["status"], error, heard) == ("key", "succeeded", 200, None, 2)
    assert len(world.plain.heard) == 2, "what was refused was not sent"


async def test_what_was_done_before_is_answered_without_asking_the_host(
    broker: EgressBroker, world: World
) -> None:
    large_one = {"status": 200, "too_large": True}
    record = {"status": 201, "reason": "Created", "headers": [["X-Id", "7"]], "text": "made"}
    ledger = Written(
        Done(True, record, None),
        Done(False, None, "It was lost."),
        Done(True, large_one, None),
    )
    grant = broker.grant(hosts=[PLAIN], report=lambda _: None, ledger=ledger)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with runner(grant).serve(listener):
        again = await post(port)
        assert again.startswith(b"HTTP/1.1 201 Created") and b"X-Id: 7" in again and again.endswith(b"made")
        lost = await post(port)
        assert b" 502 " in lost and b"is not sent again. It was lost." in lost
        large = await post(port)
        assert b" 502 " in large and b"so it was not kept" in large
    assert world.plain.heard == []
