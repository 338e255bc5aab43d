"""Machines of their own, as far as the network goes: namespaces with a wire to this host that can be cut.

Services of this host listen on its loopback and look at the name by which they are called; so each port is
passed on, from the machine's loopback over its wire to the host's.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import randbelow, token_hex

_FORWARDER = """
import asyncio, sys
async def copy(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.transport.abort()
async def main(there, *ports):
    async def serve(port):
        async def one(reader, writer):
            try:
                back, out = await asyncio.open_connection(there, port)
            except OSError:
                writer.transport.abort()
                return
            await asyncio.gather(copy(reader, out), copy(back, writer))
        await asyncio.start_server(one, "127.0.0.1", port)
    for port in ports:
        await serve(int(port))
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main(*sys.argv[1:]))
"""


def run_ip(*words: str) -> None:
    """Call `ip`.

    Raises:
        OSError: it is missing, or refuses.
    """
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise PermissionError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def why_not() -> str:
    """Why there can be no namespaces here; empty when there can."""
    name = f"try-{token_hex(3)}"
    try:
        run_ip("netns", "add", name)
    except OSError as error:
        return str(error)
    try:
        run_ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
    except OSError as error:
        return str(error)
    else:
        return ""
    finally:
        run_ip("netns", "del", name)


@dataclass(frozen=True)
class OwnNetwork:
    """A namespace with a wire to the host.

    Attributes:
        host: this host's address on the wire.
    """

    name: str
    wire: str
    host: str

    @property
    def command(self) -> tuple[str, ...]:
        """What to put in front of a command, so that it runs there; the process stays the same one."""
        return ("nsenter", f"--net=/run/netns/{self.name}")

    def cut(self) -> None:
        """Let nothing through any more, and tell nobody."""
        run_ip("link", "set", self.wire, "down")

    def mend(self) -> None:
        """Let everything through again."""
        run_ip("link", "set", self.wire, "up")


def _free_pair() -> tuple[str, str]:
    """Two link-local addresses of one /30 that no wire of this host has, nor one left by a killed run."""
    taken = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, timeout=20).stdout
    while True:
        prefix, last = f"169.254.{1 + randbelow(254)}", 4 * randbelow(63)
        if f" {prefix}.{last + 1}/" not in taken:
            return f"{prefix}.{last + 1}", f"{prefix}.{last + 2}"


@asynccontextmanager
async def own_network(ports: Sequence[int]) -> AsyncIterator[OwnNetwork]:
    """Make a network in which the loopback ports lead to the same ones of this host."""
    tag = token_hex(3)
    name, wire = f"machine-{tag}", f"m{tag}"
    host, guest = _free_pair()
    async with contextlib.AsyncExitStack() as stack:
        run_ip("netns", "add", name)
        stack.callback(run_ip, "netns", "del", name)  # the wire goes with it
        run_ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name)
        run_ip("addr", "add", f"{host}/30", "dev", wire)
        run_ip("link", "set", wire, "up")
        for words in (("addr", "add", f"{guest}/30", "dev", "eth0"), ("link", "set", "eth0", "up"),
                      ("link", "set", "lo", "up")):  # fmt: skip
            run_ip("-n", name, *words)
        made = OwnNetwork(name, wire, host)
        for port in ports:
            await stack.enter_async_context(_passing(host, port))
        forwarder = await asyncio.create_subprocess_exec(
            *made.command,
            sys.executable,
            "-c",
            _FORWARDER,
            host,
            *map(str, ports),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert forwarder.stdout is not None
            assert await forwarder.stdout.readline() == b"ready\n"
            yield made
        finally:
            forwarder.kill()
            await forwarder.wait()


@asynccontextmanager
async def passing_to_socket(host: str, path: str) -> AsyncIterator[int]:
    """Pass what comes to a free port of an address of ours on to a Unix socket."""
    async with _server(host, 0, lambda: asyncio.open_unix_connection(path)) as port:
        yield port


@asynccontextmanager
async def _passing(host: str, port: int) -> AsyncIterator[None]:
    async with _server(host, port, lambda: asyncio.open_connection("127.0.0.1", port)):
        yield


@asynccontextmanager
async def _server(host: str, port: int, connect: object) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            back, out = await connect()  # type: ignore[operator]
            await asyncio.gather(_copy(reader, out), _copy(back, writer))
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.transport.abort()
