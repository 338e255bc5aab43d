"""The runner's side: hands the listener of a session to the worker's broker."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pythonic_assistant.adapters.egress import handing
from pythonic_assistant.domain.effect import Place
from pythonic_assistant.domain.errors import SandboxUnavailableError

_ANSWER_SECONDS: Final = 15.0


class BrokerEgress:
    """The way out of the sessions of one attempt, which the worker's broker answers for. See `ports.Egress`.

    Args:
        socket: of the broker.
        token: what the broker granted to this attempt.
        certificate: PEM of the authority that sessions shall trust.
        hosts: that may be reached; for the model to know, the broker decides.
    """

    def __init__(self, socket: Path, token: str, certificate: str, hosts: Sequence[str]) -> None:
        self._socket = socket
        self._token = token
        self._certificate = certificate
        self._hosts = tuple(hosts)
        self._connections: list[Any] = []  # of the sessions that are served now

    @property
    def hosts(self) -> Sequence[str]:
        """The names that may be reached."""
        return self._hosts

    @property
    def certificate(self) -> str:
        """PEM of the authority."""
        return self._certificate

    @asynccontextmanager
    async def serve(self, listener: socket.socket) -> AsyncGenerator[None]:
        """Hand a listener over; it is answered until the context ends.

        Raises:
            SandboxUnavailableError: the broker does not take it.
        """
        with listener, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await asyncio.get_running_loop().sock_connect(connection, str(self._socket))
                    refusal = await handing.send(connection, self._token, listener)
            except (OSError, EOFError) as error:
                raise SandboxUnavailableError(
                    "The worker does not answer for the way out of this session: see its log, and "
                    "start it again."
                ) from error
            if refusal:
                raise SandboxUnavailableError(refusal)
            listener.close()  # the broker holds it now
            self._connections.append(connection)
            try:
                yield
            finally:
                self._connections.remove(connection)

    async def at(self, place: Place) -> None:
        """Say which execution the requests belong to. See `ports.Egress.at`.

        Raises:
            SandboxUnavailableError: the broker does not answer.
        """
        word = json.dumps(asdict(place)).encode()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                for connection in tuple(self._connections):
                    await handing.tell(connection, word)
        except (OSError, EOFError) as error:
            raise SandboxUnavailableError(
                "The worker does not answer for the way out of this session: see its log."
            ) from error
