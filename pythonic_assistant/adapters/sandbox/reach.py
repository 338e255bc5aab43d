"""What a session may reach beyond itself: checked, put into words for its inside, and served by the host."""

from __future__ import annotations

import asyncio
import keyword
import logging
import re
import socket
from typing import Any

from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.adapters.sandbox.inside.network import ADDRESS
from pythonic_assistant.adapters.sandbox.inside.prepare import ENVIRONMENT
from pythonic_assistant.domain.errors import InvalidInputError, SandboxUnavailableError
from pythonic_assistant.ports import Access, Egress, Toolbox

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MAX_VALUE_BYTES = (128 << 10) - 1  # MAX_ARG_STRLEN, execve(2): name, equals sign and value of one variable
_MAX_ENVIRONMENT_BYTES = 512 << 10
_MAX_TOOLS_BYTES = 1 << 20
_MOST_TOOLS = 100
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_CERTIFICATES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)
_OWN = frozenset(
    {*ENVIRONMENT, *_CERTIFICATES, *(p for n in (*_PROXIES, "NO_PROXY") for p in (n, n.lower()))}
)
_log = logging.getLogger(__name__)


def environment(access: Access, certificate: str) -> dict[str, str]:
    """Return the variables that a session gets for its access.

    Args:
        access: what was granted.
        certificate: the path, inside, of the file that holds the certificate.

    Raises:
        InvalidInputError: a name or a value that no environment can hold, or a name that is the sandbox's.
    """
    total = 0
    for name, value in access.environment.items():
        problem = ""
        if not _NAME.match(name):
            problem = "is no name of letters, digits and _ that begins with a letter"
        elif name in _OWN or name.startswith(("LD_", "PYTHON")):
            problem = "is one that the sandbox sets itself"
        elif "\0" in value or not _encodable(value):
            problem = "has a value with characters that no environment can hold"
        elif len(name) + len(value.encode()) + 2 > _MAX_VALUE_BYTES:
            problem = f"has a value of more than {_MAX_VALUE_BYTES:,} bytes"
        if problem:
            raise InvalidInputError(f"The environment variable {name[:80]!r} {problem}.")
        total += len(name) + len(value.encode())
    if total > _MAX_ENVIRONMENT_BYTES:
        raise InvalidInputError(
            f"The environment has {total:,} bytes; a session takes {_MAX_ENVIRONMENT_BYTES:,}."
        )
    found = dict(access.environment)
    if access.egress is not None:
        proxy = f"http://{ADDRESS[0]}:{ADDRESS[1]}"
        found |= {spelt: proxy for name in _PROXIES for spelt in (name, name.lower())}
        found |= {"NO_PROXY": "", "no_proxy": ""}
        found |= dict.fromkeys(_CERTIFICATES, certificate)
    return found


def tools(toolbox: Toolbox | None) -> list[dict[str, Any]]:
    """Return what a session is told about its tools.

    Raises:
        InvalidInputError: a name that cannot be a function's, or too much of it.
    """
    if toolbox is None:
        return []
    found: list[dict[str, Any]] = []
    for spec in toolbox.specs:
        usable = spec.name.isascii() and spec.name.isidentifier() and not keyword.iskeyword(spec.name)
        if not usable or spec.name.startswith("_") or any(spec.name == tool["name"] for tool in found):
            raise InvalidInputError(
                f"The tool name {spec.name[:80]!r} cannot be a Python function's, or is given twice."
            )
        found.append(
            {
                "name": spec.name,
                "description": spec.description,
                "parameters": dict(spec.parameters),
                "returns": spec.returns,
            }
        )
    if len(found) > _MOST_TOOLS or len(frames.encode({"tools": found})) > _MAX_TOOLS_BYTES:
        raise InvalidInputError(
            f"A task may have {_MOST_TOOLS} tools, described in {_MAX_TOOLS_BYTES:,} bytes; grant fewer."
        )
    return found


class WayOut:
    """Serves a session's listener for as long as the session lives.

    In a task of its own, because a session may be opened by one task and closed by another.

    Args:
        egress: who answers.
        listener: in the session's own network; handed over.
    """

    def __init__(self, egress: Egress, listener: socket.socket) -> None:
        self._egress = egress
        self._listener = listener
        self._serving = asyncio.Event()
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to serve.

        Raises:
            SandboxUnavailableError: the egress did not start.
        """
        self._task = asyncio.create_task(self._serve(), name="way out")
        started = asyncio.create_task(self._serving.wait(), name="way out started")
        try:
            await asyncio.wait(
                (started, self._task), timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if self._task.done():
                await self._task  # raises what went wrong
        except OSError as error:
            raise SandboxUnavailableError(
                f"The session's way out cannot be served: {error}. See whether its proxy is running."
            ) from error
        else:
            if not self._serving.is_set():
                raise SandboxUnavailableError("The way out of the session did not start in time.")
        finally:
            started.cancel()

    async def close(self) -> None:
        """Serve no more. Errors of the egress while it served are told in the log."""
        if self._task is None:
            self._listener.close()
            return
        self._over.set()
        _, late = await asyncio.wait([self._task], timeout=_STOP_SECONDS)
        for task in late:
            task.cancel()
        results = await asyncio.gather(self._task, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and self._serving.is_set():
                _log.error("the way out failed", exc_info=result, extra={"action": "egress_failed"})

    async def _serve(self) -> None:
        async with self._egress.serve(self._listener):
            self._serving.set()
            await self._over.wait()


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)
