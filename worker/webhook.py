"""Sends one webhook: by the same ways out, to the same addresses, as code in a session may reach."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import h11

from pythonic_assistant import __version__
from pythonic_assistant.adapters.egress.authority import Authority
from pythonic_assistant.adapters.egress.means import Means, ProxyLimits, upstream_trust
from pythonic_assistant.adapters.egress.policy import Policy, Resolve, Route
from pythonic_assistant.adapters.egress.refusal import FailedError, RefusedError
from pythonic_assistant.adapters.egress.upstream import Upstream, dial
from pythonic_assistant.domain.errors import PermanentError, RetryableError
from pythonic_assistant.domain.event import EgressRequested

ANSWER_BYTES: Final = 16 << 10
"""Of an answer's body that are read; what comes after is cut off."""
_TOLD: Final = 200  # characters of it that are told


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a receiver said; `text` is the beginning of its body on one line."""

    status: int
    text: str


@dataclass(slots=True, kw_only=True)
class WebhookSender:
    """Posts JSON.

    Attributes:
        routes: of the operator, to hosts with private addresses.
        seconds: for one webhook, from the resolver to the end of the answer.
        resolve: finds addresses; None means this machine's resolver.
    """

    routes: Sequence[Route] = ()
    seconds: float = 20.0
    resolve: Resolve | None = None
    _authority: Authority = field(default_factory=Authority)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send and wait for the answer; a redirect is an answer like any other.

        Raises:
            RetryableError: nobody answers there, or not as HTTP wants it.
            PermanentError: nothing may be sent there.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        policy = Policy((host,), self.routes, resolve=self.resolve)
        means = Means(
            policy=policy,
            authority=self._authority,
            trust=upstream_trust(),
            limits=ProxyLimits(connect_seconds=min(10.0, self.seconds)),
            secrets=(),
            report=_untold,
        )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            async with asyncio.timeout(self.seconds):
                target = policy.target(parts.netloc, "https")
                upstream = await dial(target, means)
                try:
                    return await _exchange(upstream, path, headers, body)
                finally:
                    upstream.abort()
        except TimeoutError as error:
            raise RetryableError(f"{host} did not answer within {self.seconds:g} s.") from error
        except RefusedError as error:
            # Names may lead elsewhere tomorrow, but a private address is no passing fault.
            raise PermanentError(error.sentence) from error
        except FailedError as error:
            raise RetryableError(error.sentence) from error
        except (OSError, h11.ProtocolError) as error:
            raise RetryableError(f"The connection to {host} broke ({type(error).__name__}).") from error


def body_of(payload: Mapping[str, Any]) -> bytes:
    """The JSON that is signed and sent."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


async def _exchange(upstream: Upstream, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    given = {
        "Host": upstream.target.authority,
        "User-Agent": f"Pythonic-Assistant/{__version__}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    await upstream.send(h11.Request(method="POST", target=path, headers=list(given.items())))
    await upstream.send(h11.Data(data=body))
    await upstream.send(h11.EndOfMessage())
    response = await upstream.response()
    read = b""
    stream = upstream.body()
    try:
        async for piece in stream:
            read += piece
            if len(read) >= ANSWER_BYTES:
                break
    finally:
        await stream.aclose()
    text = " ".join(read[:ANSWER_BYTES].decode(errors="replace").split())
    return Answer(status=response.status_code, text="".join(c for c in text if c.isprintable())[:_TOLD])


def _untold(_: EgressRequested) -> None:
    """Deliveries are told of by their own rows."""
