"""The self-test at start: a session tries to get out, and no task is run unless all of it fails.

What a kernel claims to support is not believed: a wall that is missing shows here.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any, cast

from pythonic_assistant.domain.errors import SandboxDiedError, SandboxUnavailableError
from pythonic_assistant.ports import Sandbox

_SECONDS = 15.0

# Each attempt returns a value if it got through, and raises if it was stopped.
_ATTEMPTS = """
import ctypes, hashlib, json, os, pathlib, resource, signal, socket
libc = ctypes.CDLL(None, use_errno=True)
GIVEN = json.loads({given!r})

def read_secret():
    return pathlib.Path(GIVEN["secret"]).read_text()

def read_environment():
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() == GIVEN["environment"]:
                return str(path)
        except OSError:  # this one is closed, or has just ended; another may be open
            continue
    raise OSError("not found")

def connect():
    with socket.create_connection(("127.0.0.1", GIVEN["port"]), timeout=1):
        return "connected"

def unshare():
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")
    return "a new user namespace"

def vsock():
    return str(socket.socket(getattr(socket, "AF_VSOCK", 40), socket.SOCK_STREAM))

def netlink():
    return str(socket.socket(getattr(socket, "AF_NETLINK", 16), socket.SOCK_RAW, 0))

def is_ours():
    # The same number may be a process of the session: then nothing of the host was reached. It started at
    # another time; where that cannot be read, it is taken for the host's.
    try:
        fields = pathlib.Path(f"/proc/{{GIVEN['pid']}}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] != GIVEN["started"]

def signal_host():
    os.kill(GIVEN["pid"], 0)
    if is_ours():
        raise OSError("a process of our own")
    return "signalled"

def limit_host():
    found = resource.prlimit(GIVEN["pid"], resource.RLIMIT_NOFILE)
    if is_ours():
        raise OSError("a process of our own")
    return str(found)

def trace():
    # PTRACE_TRACEME, which stops nobody
    if libc.ptrace(0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")
    return "traced"

def write_outside():
    path = pathlib.Path(GIVEN["written"])
    path.write_text("owned")
    return str(path)

def raise_limit():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 1, most + 1))
    return "raised"

ATTEMPTS = (
    read_secret, read_environment, connect, unshare, vsock, netlink, signal_host, limit_host, trace,
    write_outside, raise_limit,
)
results = {{}}
for attempt in ATTEMPTS:
    try:
        results[attempt.__name__] = attempt()
    except Exception:
        results[attempt.__name__] = None
print(json.dumps(results))
"""
_MEANING = {
    "read_secret": "it could read a file of the host",
    "read_environment": "it could read the environment of a process of the host",
    "connect": "it could connect to a port of the host",
    "unshare": "it could make a user namespace (is seccomp filtering compiled into the kernel?)",
    "vsock": "it could open an AF_VSOCK socket (is seccomp filtering compiled into the kernel?)",
    "netlink": "it could open a netlink socket (is seccomp filtering compiled into the kernel?)",
    "signal_host": "it could signal a process of the host",
    "limit_host": "it could look at the limits of a process of the host",
    "trace": "it could use ptrace (is seccomp filtering compiled into the kernel?)",
    "write_outside": "it could write outside of its scratch folder",
    "raise_limit": "it could raise its own limits",
}


async def ensure_isolated(sandbox: Sandbox) -> None:
    """Try the walls of a sandbox, and that it works at all.

    Raises:
        SandboxUnavailableError: something got through, or ordinary code does not run.
    """
    with tempfile.TemporaryDirectory(prefix="pythonic-probe-") as folder, _listener() as listener:
        given = _bait(Path(folder)) | {"port": listener.getsockname()[1]}
        results = await _attempt(sandbox, given)
        if Path(given["written"]).exists():
            results["write_outside"] = given["written"]
    through = [meaning for name, meaning in _MEANING.items() if results.get(name) is not None]
    missing = [name for name in _MEANING if name not in results]
    if through or missing:
        found = "; ".join(through) or f"no answer for {', '.join(missing)}"
        raise SandboxUnavailableError(
            f"The sandbox does not isolate on this host, so no generated code will be run: {found}. "
            "Use Linux 5.14 or newer with seccomp, or run the worker on another machine."
        )


async def ensure_works(sandbox: Sandbox) -> None:
    """Try no more than that ordinary code runs: for a sandbox that promises no walls.

    Raises:
        SandboxUnavailableError: it does not.
    """
    session = await sandbox.open()
    try:
        result = await session.execute("1 + 1", timeout=_SECONDS)
    finally:
        await session.close()
    if result.value != "2":
        raise SandboxUnavailableError(f"Ordinary code does not run: {result.error.strip() or result.outcome}")


def _listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _bait(folder: Path) -> dict[str, Any]:
    """Lay out what the session shall not reach; everybody on the host may read the file."""
    secret = folder / "secret.txt"
    secret.write_text(secrets.token_hex(16))
    secret.chmod(0o644)
    # Where sessions have users of their own, these rights let only the walls stop a write.
    outside = folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    folder.chmod(0o755)
    # Only a digest: the environment itself holds keys.
    environment = hashlib.sha256(Path("/proc/self/environ").read_bytes()).hexdigest()
    return {
        "secret": str(secret),
        "environment": environment,
        "pid": os.getpid(),
        "started": Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19],
        "written": str(outside / "written"),
    }


async def _attempt(sandbox: Sandbox, given: dict[str, Any]) -> dict[str, Any]:
    session = await sandbox.open()
    try:
        async with asyncio.timeout(_SECONDS * 2):
            result = await session.execute(_ATTEMPTS.format(given=json.dumps(given)), timeout=_SECONDS)
        if result.outcome != "ok":
            raise SandboxUnavailableError(
                f"Ordinary code does not run in the sandbox: {result.error.strip() or result.outcome}"
            )
        results: Any = json.loads(result.stdout)
    except (SandboxDiedError, TimeoutError, ValueError) as error:
        raise SandboxUnavailableError(f"The sandbox's self-test did not finish: {error}") from error
    finally:
        await session.close()
    return cast("dict[str, Any]", results) if isinstance(results, dict) else {}
