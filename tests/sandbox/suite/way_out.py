"""Hosts of the internet, on loopback, and a grant that leads to them: what attacks of group egress aim at."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pythonic_assistant.adapters.egress.local import ProxyEgress
from pythonic_assistant.adapters.egress.policy import Route
from pythonic_assistant.domain.event import EgressRequested
from pythonic_assistant.domain.secret import BoundSecret, placeholder_of
from pythonic_assistant.ports import Access, Egress, Sandbox, SandboxSession

API, OTHER = "api.example.org", "other.example.net"
REBOUND, FOREIGN = "rebound.example.org", "foreign.example.com"
_PROXY_PORT = 3128
_MOST = 1 << 20
_TABLE = b"region,amount\nnorth,10\nsouth,20\n"
_REPORT_SECONDS = 10.0
_HONEST = """
import os, urllib.request
token = 'Bearer ' + os.environ['API_TOKEN']
asked = urllib.request.Request({url!r}, headers={{'Authorization': token}})
with urllib.request.urlopen(asked, timeout=20) as answer: answer.read()
answer.status
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """A grant, and what the hosts behind it have heard.

    Attributes:
        heard: bytes that came to each host.
        reports: what the proxy told of requests.
    """

    egress: Egress
    secret: BoundSecret
    heard: dict[str, bytearray]
    reports: list[EgressRequested] = field(default_factory=list[EgressRequested])

    @property
    def access(self) -> Access:
        """For `Sandbox.open`."""
        return Access(environment={self.secret.name: self.secret.placeholder}, egress=self.egress)

    @property
    def given(self) -> dict[str, Any]:
        """What attacks are told."""
        return {
            "port": _PROXY_PORT,
            "api": API,
            "other": OTHER,
            "rebound": REBOUND,
            "foreign": FOREIGN,
            "placeholder": self.secret.placeholder,
        }

    async def ensure_leads_out(self, sandbox: Sandbox) -> None:
        """Send the placeholder where it may go; without that, attacks that are stopped would prove nothing.

        Raises:
            RuntimeError: the value did not arrive there, or that was not reported.
        """
        async with await sandbox.open(access=self.access) as session:
            await self.ensure_open(session)
        until = time.monotonic() + _REPORT_SECONDS  # told when the answer has gone out, so a moment later
        while not any(report.host == API and report.outcome == "allowed" for report in self.reports):
            if time.monotonic() > until:
                raise RuntimeError(f"the request was reported as {self.reports}")
            await asyncio.sleep(0.01)

    async def ensure_open(self, session: SandboxSession) -> None:
        """Send the placeholder from one session to where it may go.

        Raises:
            RuntimeError: the value did not arrive there.
        """
        mark = secrets.token_hex(8)
        result = await session.execute(_HONEST.format(url=f"http://{API}/honest-{mark}"), timeout=30)
        heard = bytes(self.heard[API]).lower().rpartition(f"/honest-{mark}".encode())[2]
        if result.value != "200" or f"authorization: bearer {self.secret.value}".encode() not in heard:
            raise RuntimeError(f"the granted host was not reached: {result.value} {result.error[-300:]}")

    def harm(self) -> str:
        """Say whether the secret went astray; empty when it did not."""
        value = self.secret.value
        if value.encode() in self.heard[OTHER]:
            return "the secret's value came to a host that it does not belong to"
        told = [repr(report) for report in self.reports if value in repr(report)]
        return f"the secret's value was reported: {told[0]}" if told else ""


@asynccontextmanager
async def way_out() -> AsyncGenerator[WayOut, None]:
    """Start the hosts and grant them."""
    secret = BoundSecret(
        name="API_TOKEN",
        value="value_" + secrets.token_hex(16),
        hosts=(API,),
        placeholder=placeholder_of("API_TOKEN"),
    )
    heard = {API: bytearray(), OTHER: bytearray()}
    reports: list[EgressRequested] = []
    async with host(API, heard[API]) as api, host(OTHER, heard[OTHER]) as other:
        routes = (
            Route(host=API, address="127.0.0.1", port=api, tls=False),
            Route(host=OTHER, address="127.0.0.1", port=other, tls=False),
        )
        egress = ProxyEgress(
            hosts=(API, OTHER, REBOUND),
            report=reports.append,
            secrets=(secret,),
            routes=routes,
            resolve=_inwards,
        )
        yield WayOut(egress=egress, secret=secret, heard=heard, reports=reports)


async def _inwards(_name: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


@asynccontextmanager
async def host(name: str, heard: bytearray) -> AsyncGenerator[int, None]:
    """Answer requests with the name and what came, as a careless server does, or with a table."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            came = await reader.read(_MOST)
            heard.extend(came)
            if b"/redirect" in came.partition(b"\r\n")[0]:
                head = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:80/\r\nContent-Length: 0\r\n"
                writer.write(head + b"Connection: close\r\n\r\n")
            elif b"/table.csv" in came.partition(b"\r\n")[0]:
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nConnection: close\r\n"
                writer.write(head + b"Content-Length: %d\r\n\r\n" % len(_TABLE) + _TABLE)
            else:
                body = b"reached " + name.encode() + b"\n" + came
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        except ConnectionError:  # the other side has gone
            return
        finally:
            writer.close()

    listener = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(answer, sock=listener)
    async with server:
        yield listener.getsockname()[1]
