"""A host of the internet, on loopback: HTTP/1.1, plain or with a certificate of the tests' authority."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import h11
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Heard:
    """A request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def __getitem__(self, name: str) -> str:
        return next(value for key, value in self.headers if key == name)

    def names(self) -> set[str]:
        return {key for key, _ in self.headers}


@dataclass
class Host:
    """What a host was asked, and how it behaves.

    `secret` is what it shows at /secret…, as a server would that has stored what it got.
    """

    port: int
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    secret: str = ""


def certificates(folder: Path, names: list[str]) -> tuple[Path, ssl.SSLContext]:
    """An authority's certificate as a file, and a server's context for these names signed by it."""
    now = datetime.now(UTC)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    authority = (
        builder(name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        builder(x509.Name([]), key.public_key())
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    *(x509.DNSName(host) for host in names),
                    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                ]
            ),
            critical=True,
        )
        .sign(authority_key, hashes.SHA256())
    )
    cafile, chain = folder / "authority.pem", folder / "leaf.pem"
    cafile.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(
        leaf.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return cafile, context


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Host]:
    """Serve on a free port of 127.0.0.1."""
    host = Host(port=0)
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        host.connections += 1
        host.open += 1
        try:
            await _converse(host, reader, writer)
        except (OSError, h11.RemoteProtocolError, asyncio.CancelledError):
            pass  # cancelled by `serving` alone
        finally:
            host.open -= 1
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _converse(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)

    async def event() -> object:
        while (found := http.next_event()) is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                await send(h11.InformationalResponse(status_code=100, headers=[]))
            http.receive_data(await reader.read(1 << 16))
        return found

    async def send(part: h11.Event) -> None:
        writer.write(http.send(part) or b"")
        await writer.drain()

    while isinstance(request := await event(), h11.Request):
        heard = Heard(
            request.method.decode(),
            request.target.decode("latin-1"),
            [(name.decode(), value.decode("latin-1")) for name, value in request.headers],
        )
        host.heard.append(heard)
        url = urlsplit(heard.target)
        if url.path == "/early":  # answers without reading the body
            await send(h11.Response(status_code=413, headers=[("content-length", "3")]))
            await send(h11.Data(data=b"big"))
            await send(h11.EndOfMessage())
            await asyncio.sleep(0.2)
            return
        while isinstance(part := await event(), h11.Data):
            heard.body += part.data
            if url.path == "/die-while-reading":
                return
        if url.path == "/silent":
            await reader.read()
            return
        if not await _answer(host, heard, send, writer):
            return
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return
        http.start_next_cycle()


async def _answer(host: Host, heard: Heard, send: object, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; False when the connection is to be closed then."""
    assert callable(send)
    url = urlsplit(heard.target)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}

    async def reply(status: int, headers: list[tuple[str, str]], *pieces: bytes) -> None:
        await send(h11.Response(status_code=status, headers=headers, reason=b"As asked"))
        for piece in pieces:
            await send(h11.Data(data=piece))
            await asyncio.sleep(0)
        await send(h11.EndOfMessage())

    secret = host.secret.encode()
    match url.path:
        case "/bytes":
            size = int(query["n"])
            await send(h11.Response(status_code=200, headers=[("content-length", str(size))]))
            while size:
                await send(h11.Data(data=b"x" * min(size, 1 << 16)))
                size -= min(size, 1 << 16)
            await send(h11.EndOfMessage())
        case "/chunked":
            await reply(200, [], *(f"piece {number}\n".encode() for number in range(50)))
        case "/empty":
            await reply(204, [])
        case "/redirect":
            await reply(302, [("location", query["to"]), ("content-length", "0")])
        case "/close":  # HTTP/1.0: the body ends with the connection
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")
            await writer.drain()
            return False
        case "/die":
            return False
        case "/die-in-the-middle":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
            await writer.drain()
            return False
        case "/die-later":  # answers, and closes the connection that it said it would keep
            await reply(200, [("content-length", "2")], b"ok")
            return False
        case "/nonsense":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
            await writer.drain()
            return False
        case "/switch":
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
            await writer.drain()
            return False
        case "/secret":
            await reply(200, [("x-seen", host.secret), ("content-type", "text/plain")], b"<" + secret + b">")
        case "/secret-in-pieces":
            await reply(200, [], *(secret[at : at + 1] for at in range(len(secret))), b".")
        case "/secret-gzip":
            body = gzip.compress(b"<" + secret) + gzip.compress(b">" * 10)
            await reply(200, [("content-encoding", "gzip"), ("content-length", str(len(body)))], body)
        case "/secret-deflate":
            body = zlib.compress(b"<" + secret + b">")
            body = body if query.get("zlib") else body[2:-4]
            await reply(200, [("content-encoding", "deflate")], body)
        case "/secret-brotli":
            await reply(200, [("content-encoding", "br")], b"\x0b\x02\x80hello\x03")
        case "/cut-gzip":
            await reply(200, [("content-encoding", "gzip")], gzip.compress(secret * 9)[:-9])
        case _:
            body = json.dumps(
                {
                    "method": heard.method,
                    "target": heard.target,
                    "headers": heard.headers,
                    "body": heard.body.decode("latin-1"),
                }
            ).encode()
            await reply(200, [("content-type", "application/json"), ("content-length", str(len(body)))], body)
    return True
