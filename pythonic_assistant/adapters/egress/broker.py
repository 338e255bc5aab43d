"""The worker's side: takes the listening sockets of sessions and answers on them while they live.

A runner connects to a Unix socket, sends its token and, beside it, the descriptor of the listener that lies
in the network of its session. The service lives as long as that connection. Runners never see a secret.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets as randomness
import socket
import struct
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from pythonic_assistant.adapters.egress import handing
from pythonic_assistant.adapters.egress.accepting import accept
from pythonic_assistant.adapters.egress.authority import Authority
from pythonic_assistant.adapters.egress.means import (
    DEFAULT_LIMITS,
    Means,
    ProxyLimits,
    upstream_trust,
)
from pythonic_assistant.adapters.egress.policy import Policy, Resolve, Route
from pythonic_assistant.adapters.egress.proxy import serve
from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.errors import ConfigurationError
from pythonic_assistant.domain.event import EgressRequested
from pythonic_assistant.domain.secret import BoundSecret
from pythonic_assistant.ports import EffectLedger

_log = logging.getLogger(__name__)
_places: Final[TypeAdapter[Place]] = TypeAdapter(Place)

MOST_LISTENERS: Final = 16
"""Of one grant at the same time: an attempt has one session, and a few more for its checks."""
_MOST_VISITORS: Final = 64
"""Connections that have not shown a token yet."""
_TOKEN_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a runner needs to let its sessions out; `wire.EgressGrant` carries it.

    Attributes:
        token: of this attempt alone, good for several sessions until it is revoked.
        certificate: PEM of the authority that they shall trust.
        socket: of the broker.
        hosts: that may be reached.
    """

    token: str
    certificate: str
    socket: Path
    hosts: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Grant(socket={str(self.socket)!r}, hosts={self.hosts!r}, token=…)"


@dataclass(slots=True)
class _Granted:
    token: str
    means: Means
    services: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])


class EgressBroker:
    """Answers for the sessions of one worker. Use it as an async context manager, then `grant`.

    Args:
        socket_path: where runners connect; its folder is made with mode 0700 if it does not exist.
        authority: of this worker; by default a new one.
        routes: of the operator.
        cafile: PEM of the authorities that hosts are checked with; by default those of the system.
        limits: of each session's connections.
        resolve: finds addresses; by default the resolver of this machine.
    """

    def __init__(
        self,
        socket_path: Path,
        authority: Authority | None = None,
        routes: Sequence[Route] = (),
        *,
        cafile: Path | None = None,
        limits: ProxyLimits = DEFAULT_LIMITS,
        resolve: Resolve | None = None,
    ) -> None:
        self._path = socket_path
        self._authority = authority or Authority()
        self._routes = tuple(routes)
        self._trust = upstream_trust(cafile)
        self._limits = limits
        self._resolve = resolve
        self._grants: list[_Granted] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None

    async def __aenter__(self) -> EgressBroker:
        """Listen.

        Raises:
            ConfigurationError: the path cannot be used.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.unlink(
                missing_ok=True
            )  # left by a worker that was killed; each has a folder of its own
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(_MOST_VISITORS)
        except OSError as error:
            listener.close()
            raise ConfigurationError(
                f"The socket {self._path} of the way out cannot be made ({error.strerror or error}): give "
                "this user the right to write in its folder, or choose a shorter state folder."
            ) from error
        listener.setblocking(False)
        self._socket = listener
        self._start(self._accept(listener))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every service and remove the socket."""
        for granted in tuple(self._grants):
            await self.revoke(granted.token)
        await _end(self._tasks)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)

    def grant(
        self,
        *,
        hosts: Sequence[str],
        secrets: Sequence[BoundSecret] = (),
        report: Callable[[EgressRequested], None],
        ledger: EffectLedger | None = None,
    ) -> Grant:
        """Let the sessions of one attempt out.

        Args:
            hosts: names that `domain.hosts.read_host` has passed.
            secrets: to swap in, each for its own hosts.
            report: told of every request at its end, on the event loop, also while `revoke` waits.
            ledger: where what may change something is written down before it is sent.
        """
        means = Means(
            policy=Policy(hosts, self._routes, resolve=self._resolve),
            authority=self._authority,
            trust=self._trust,
            limits=self._limits,
            secrets=secrets,
            report=report,
            ledger=ledger,
        )
        granted = _Granted(token=randomness.token_urlsafe(32), means=means)
        self._grants.append(granted)
        return Grant(
            token=granted.token,
            certificate=self._authority.certificate,
            socket=self._path,
            hosts=means.policy.hosts,
        )

    async def revoke(self, token: str) -> None:
        """End what a token has opened; nothing is reported after this has returned. May be called twice."""
        granted = self._granted(token)
        if granted is None:
            return
        self._grants.remove(granted)
        await _end(granted.services)
        granted.means.reporter.finish()

    def _granted(self, token: str) -> _Granted | None:
        found = None
        for granted in self._grants:
            if hmac.compare_digest(granted.token.encode(), token.encode()):
                found = granted
        return found

    async def _accept(self, listener: socket.socket) -> None:
        visitors = asyncio.Semaphore(_MOST_VISITORS)
        while True:
            await visitors.acquire()
            try:
                connection = await accept(listener)
            except OSError as error:  # no descriptor left: wait until somebody gives one back
                visitors.release()
                _log.warning("the egress broker cannot accept", extra={"error": type(error).__name__})
                await asyncio.sleep(0.2)
                continue
            closing = ExitStack()
            closing.callback(connection.close)
            visit = self._start(self._visit(connection, closing))
            # Also when the task is cancelled before it has begun.
            visit.add_done_callback(lambda _, closing=closing: closing.close())
            visit.add_done_callback(lambda _: visitors.release())

    async def _visit(self, connection: socket.socket, closing: ExitStack) -> None:
        """Read a token and a descriptor; on success hand both over to a service."""
        with closing:
            if _peer(connection) != os.geteuid():
                return
            try:
                async with asyncio.timeout(_TOKEN_SECONDS):
                    token, listener = await handing.receive(connection)
            except (TimeoutError, OSError, EOFError):
                return
            closing.enter_context(listener)
            granted = self._granted(token)
            if granted is None:
                refusal = "The way out is closed: the attempt that this session belongs to has ended."
            elif not handing.is_listener(listener):
                refusal = "The descriptor is no listening TCP socket."
            elif len(granted.services) >= MOST_LISTENERS:
                refusal = f"One attempt may have {MOST_LISTENERS} sessions with a way out at the same time."
            else:
                service = self._start(_service(connection, listener, granted.means))
                granted.services.add(service)
                service.add_done_callback(granted.services.discard)
                service.add_done_callback(lambda _: (connection.close(), listener.close()))
                closing.pop_all()
                return
            await handing.answer(connection, refusal)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _service(connection: socket.socket, listener: socket.socket, means: Means) -> None:
    """Answer on a listener until the runner closes its connection."""
    await handing.answer(connection, "")
    serving = asyncio.create_task(serve(listener, means))
    try:
        async for word in handing.words(connection):
            means.place = _places.validate_json(word)
            await handing.answer(connection, "")
    except ValidationError:
        _log.warning("a runner says nonsense", extra={"action": "egress_place"})
    finally:
        await _end({serving})


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they are done."""
    ending = tuple(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def _peer(connection: socket.socket) -> int:
    """The user at the other side: unix(7), SO_PEERCRED, a struct of pid, uid and gid."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
