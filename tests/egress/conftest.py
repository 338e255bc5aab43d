"""A proxy on a listener of this machine, with two hosts behind it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pythonic_assistant.adapters.egress.local import ProxyEgress
from pythonic_assistant.adapters.egress.means import DEFAULT_LIMITS, ProxyLimits
from pythonic_assistant.adapters.egress.policy import Resolve, Route
from pythonic_assistant.domain.event import EgressRequested
from pythonic_assistant.domain.secret import BoundSecret
from tests.servers.upstream import Host, certificates, serving

API, OTHER, PLAIN = "api.example.org", "other.example.net", "plain.example.org"
VALUE = 'ghp_s3cret/Value+with"signs&more=='
GITHUB = BoundSecret(
    name="GITHUB_TOKEN", value=VALUE, hosts=(API,), placeholder="PLACEHOLDER_GITHUB_TOKEN_0123456789abcdef"
)


@dataclass
class Proxy:
    """A running proxy as code in a session sees it."""

    port: int
    cafile: Path
    events: list[EgressRequested]
    egress: ProxyEgress

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.egress.certificate)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, data: bytes, *, tunnel: str | None = None, sni: str | None = None) -> bytes:
        """Send bytes, in a tunnel to a host if one is named, and read until the proxy closes."""
        reader, writer = await self.connect()
        try:
            if tunnel is not None:
                writer.write(f"CONNECT {tunnel}:443 HTTP/1.1\r\nHost: {tunnel}:443\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                if b" 200 " not in head:
                    return head + await reader.read()
                context = self.trust
                context.check_hostname = sni is None
                await writer.start_tls(context, server_hostname=sni or tunnel)
            writer.write(data)
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.transport.abort()

    async def ask(
        self, target: str, *headers: str, host: str = API, body: bytes = b"", method: str = "GET"
    ) -> bytes:
        """One request in a tunnel."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "Connection: close"]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return await self.raw("\r\n".join([*lines, "", ""]).encode("latin-1") + body, tunnel=host)

    async def reported(self, count: int) -> list[EgressRequested]:
        """Wait until so many requests have been told of; there must not be more."""
        async with asyncio.timeout(10):
            while len(self.events) < count:
                await asyncio.sleep(0.005)
        assert len(self.events) == count, self.events
        return self.events


@dataclass
class World:
    """Two hosts with certificates, one without, and proxies that lead to them."""

    api: Host
    other: Host
    plain: Host
    cafile: Path
    folder: Path
    stack: AsyncExitStack
    proxies: list[Proxy] = field(default_factory=list)

    @property
    def routes(self) -> tuple[Route, ...]:
        return (
            Route(host=API, address="127.0.0.1", port=self.api.port, tls=True),
            Route(host=OTHER, address="127.0.0.1", port=self.other.port, tls=True),
            Route(host=PLAIN, address="127.0.0.1", port=self.plain.port, tls=False),
        )

    async def proxy(
        self,
        *,
        hosts: Sequence[str] = (API, OTHER, PLAIN),
        secrets: Sequence[BoundSecret] = (),
        routes: Sequence[Route] | None = None,
        limits: ProxyLimits = DEFAULT_LIMITS,
        resolve: Resolve | None = None,
    ) -> Proxy:
        events: list[EgressRequested] = []
        egress = ProxyEgress(
            hosts=hosts,
            secrets=secrets,
            report=events.append,
            routes=self.routes if routes is None else routes,
            cafile=self.cafile,
            limits=limits,
            resolve=resolve,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        await self.stack.enter_async_context(egress.serve(listener))
        cafile = self.folder / f"session{len(self.proxies)}.pem"
        cafile.write_text(egress.certificate)
        proxy = Proxy(port=listener.getsockname()[1], cafile=cafile, events=events, egress=egress)
        self.proxies.append(proxy)
        return proxy


@asynccontextmanager
async def worlds() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cafile, context = certificates(folder, [API, OTHER, PLAIN])
        api = await stack.enter_async_context(serving(context))
        other = await stack.enter_async_context(serving(context))
        plain = await stack.enter_async_context(serving())
        yield World(api=api, other=other, plain=plain, cafile=cafile, folder=folder, stack=stack)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with worlds() as world:
        yield world
