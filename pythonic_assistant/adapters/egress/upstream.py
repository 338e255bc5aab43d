"""The host's side: dials the checked address and speaks HTTP/1.1 as its client."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import h11

from pythonic_assistant.adapters.egress.line import CHUNK, Line
from pythonic_assistant.adapters.egress.means import Means
from pythonic_assistant.adapters.egress.policy import Target
from pythonic_assistant.adapters.egress.refusal import FailedError, RefusedError

_FAREWELL_SECONDS: Final = 1.0
_LEAST_SECONDS: Final = 2.0  # for each of several addresses


class Upstream:
    """A connection to a host, for one request after the other."""

    def __init__(self, line: Line, target: Target, *, head_bytes: int) -> None:
        self.target: Final = target
        self._line = line
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=head_bytes)
        self.used = False

    async def send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        """Send a part of a request.

        Raises:
            OSError: the connection broke.
            h11.LocalProtocolError: the part cannot be written as HTTP.
        """
        data = self._http.send(event)
        if data:
            await self._line.write(data)

    async def response(self) -> h11.Response:
        """Wait for the answer's head; what comes before (1xx) is dropped.

        Raises:
            FailedError: there is none, or it is no HTTP.
        """
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                raise FailedError(f"{self.target.host} changed to another protocol without being asked.")
            if isinstance(event, h11.ConnectionClosed):
                raise FailedError(f"{self.target.host} closed the connection without an answer.")

    async def body(self) -> AsyncGenerator[bytes]:
        """The answer's body, piece by piece.

        Raises:
            FailedError: it ended too early, or is no HTTP.
        """
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    def again(self) -> bool:
        """Make ready for another request; False when the host will take none."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self.used = True
        return not self._line.ended

    async def close(self) -> None:
        """Close politely."""
        await self._line.close()

    def abort(self) -> None:
        """Close at once."""
        self._line.abort()

    async def _next(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._line.read())
        except h11.RemoteProtocolError as error:
            raise FailedError(
                f"{self.target.host} broke its answer off, or gave none that is HTTP/1.1."
            ) from error
        except OSError as error:
            raise FailedError(f"The connection to {self.target.host} broke.") from error
        if event is h11.PAUSED:
            raise FailedError(f"{self.target.host} went on after the end of its answer.")
        return event


async def dial(target: Target, means: Means) -> Upstream:
    """Connect to a target.

    Raises:
        RefusedError: it leads to where nothing may be reached.
        FailedError: nobody answers there, or not as the host that it should be.
    """
    try:
        async with asyncio.timeout(means.limits.connect_seconds):
            addresses = await means.policy.addresses(target)
            connection = await _connect(target, addresses, means.limits.connect_seconds)
            line = await _line(connection, target, means)
    except TimeoutError as error:
        raise FailedError(
            f"{target.host} did not answer within {means.limits.connect_seconds:g} s.", status=504
        ) from error
    return Upstream(line, target, head_bytes=means.limits.head_bytes)


async def _connect(target: Target, addresses: Sequence[str], seconds: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    port = target.route.port if target.route is not None and target.route.address is not None else target.port
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(max(_LEAST_SECONDS, seconds / len(addresses))):
                await loop.sock_connect(connection, (address, port))
            _refuse_self(connection, target)
        except (OSError, TimeoutError):
            connection.close()
            continue
        except BaseException:
            connection.close()
            raise
        return connection
    raise FailedError(f"{target.host} cannot be reached on port {target.port}.")


def _refuse_self(connection: socket.socket, target: Target) -> None:
    """A public address may be our own: then a name would lead to what listens on this machine."""
    if target.route is None and connection.getsockname()[0] == connection.getpeername()[0]:
        raise RefusedError(f"The host {target.host} resolves to the machine of the worker itself.")


async def _line(connection: socket.socket, target: Target, means: Means) -> Line:
    arguments: dict[str, Any] = {}
    if target.tls:
        arguments = {
            "ssl": means.trust,
            "server_hostname": target.host,
            "ssl_handshake_timeout": means.limits.connect_seconds,
            "ssl_shutdown_timeout": _FAREWELL_SECONDS,
        }
    try:
        reader, writer = await asyncio.open_connection(sock=connection, limit=CHUNK, **arguments)
    except ssl.SSLCertVerificationError as error:
        raise FailedError(
            f"The certificate of {target.host} is not valid: {error.verify_message}."
        ) from error
    except OSError as error:
        raise FailedError(f"{target.host} does not speak TLS on port {target.port}.") from error
    except BaseException:
        connection.close()
        raise
    return Line(reader, writer)
