"""One request and its answer, from the code to its host and back, streaming both ways at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import h11

from pythonic_assistant.adapters.egress.client_side import ClientSide
from pythonic_assistant.adapters.egress.incoming import answer_body, answer_head, has_no_body
from pythonic_assistant.adapters.egress.means import SAFE, Means
from pythonic_assistant.adapters.egress.message import Head
from pythonic_assistant.adapters.egress.outgoing import Outgoing, prepare
from pythonic_assistant.adapters.egress.policy import Target
from pythonic_assistant.adapters.egress.refusal import FailedError, GoneError, RefusedError
from pythonic_assistant.adapters.egress.upstream import Upstream, dial


@dataclass(slots=True)
class Account:
    """What is told of a request at its end."""

    sent: int = 0
    received: int = 0
    status: int = 0
    secrets: tuple[str, ...] = ()


def _still() -> None:
    """Before anything can move."""


class Exchange:
    """Relays one request.

    Args:
        kept: a connection to the same target from the request before, or None; owned from now on.
    """

    def __init__(self, client: ClientSide, target: Target, means: Means, kept: Upstream | None) -> None:
        self._client = client
        self._target = target
        self._means = means
        self._upstream = kept
        self._moved: Callable[[], None] = _still
        self.account: Final = Account()

    async def run(self, head: Head) -> Upstream | None:
        """Relay; returns the connection to the host when it can be used again.

        Raises:
            RefusedError: the request must not be sent.
            FailedError: the host did not answer, or not in time.
            GoneError: the code did not wait for the answer.
        """
        limits = self._means.limits
        try:
            async with asyncio.timeout(limits.exchange_seconds), asyncio.timeout(limits.idle_seconds) as idle:
                self._moved = _mover(idle, limits.idle_seconds)
                outgoing = await prepare(
                    head,
                    self._watched(self._client.body()),
                    self._target,
                    self._means.vault,
                    most_buffered=limits.buffered_bytes,
                )
                self.account.secrets = outgoing.secrets
                await self._relay(outgoing)
        except TimeoutError as error:
            raise FailedError(
                f"Nothing moved between here and {self._target.host} for {limits.idle_seconds:g} s, or the "
                f"request took more than {limits.exchange_seconds:g} s.",
                status=504,
            ) from error
        upstream = self._upstream
        if upstream is None or head.method not in SAFE or not upstream.again():
            return None
        self._upstream = None
        return upstream

    def end(self) -> None:
        """Close the connection to the host, if there is one left."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    async def _relay(self, outgoing: Outgoing) -> None:
        """Send over the connection that was kept, if it is still good, else over a new one."""
        if self._upstream is not None:
            if outgoing.head.method in SAFE and outgoing.length == 0:
                try:
                    return await self._once(self._upstream, outgoing)
                except FailedError:
                    if self._client.answered:
                        raise
            self.end()
        self._upstream = await dial(self._target, self._means)
        await self._means.about_to_send(outgoing.head.method, self._target.host)
        self._moved()
        return await self._once(self._upstream, outgoing)

    async def _once(self, upstream: Upstream, outgoing: Outgoing) -> None:
        sending = asyncio.create_task(self._send(upstream, outgoing))
        try:
            response = await upstream.response()
            self._moved()
            await self._answer(outgoing.head.method, response, upstream)
        except FailedError:
            # The host's silence may be our own doing: then the reason is what was found in the body.
            if sending.done() and not sending.cancelled() and (cause := sending.exception()) is not None:
                raise cause from None
            raise
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, upstream: Upstream, outgoing: Outgoing) -> None:
        """Send head and body. A host that takes no more may have answered already, so that is no error."""
        head = outgoing.head
        headers = [(b"Host", self._target.authority.encode()), *head.headers]
        if outgoing.length is None:
            headers.append((b"Transfer-Encoding", b"chunked"))
        elif head.has_body or outgoing.length:
            headers.append((b"Content-Length", str(outgoing.length).encode()))
        try:
            await upstream.send(h11.Request(method=head.method, target=head.target, headers=headers))
            async for piece in outgoing.body:
                await upstream.send(h11.Data(data=piece))
                self.account.sent += len(piece)
                self._moved()
            await upstream.send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:
            upstream.abort()
            raise RefusedError(
                "The request cannot be written as HTTP: a secret's value may have letters or spaces at its "
                "ends that a header cannot hold."
            ) from error
        except (RefusedError, GoneError):
            upstream.abort()
            raise
        except OSError:
            return

    async def _answer(self, method: str, response: h11.Response, upstream: Upstream) -> None:
        """Pass an answer on to the code."""
        vault, most = self._means.vault, self._means.limits.answer_bytes
        too_large = FailedError(f"The answer of {self._target.host} is larger than {most:,} bytes.")
        bodiless = has_no_body(method, response.status_code)
        declared = next((value for name, value in response.headers if name == b"content-length"), b"0")
        if not bodiless and int(declared) > most:
            raise too_large
        body = answer_body(response, upstream.body(), vault, bodiless=bodiless)
        self.account.status = response.status_code
        await self._client.send(answer_head(response, vault, bodiless=bodiless))
        async for piece in body:
            self.account.received += len(piece)
            if self.account.received > most:
                raise too_large
            if piece:
                await self._client.send(h11.Data(data=piece))
            self._moved()
        await self._client.send(h11.EndOfMessage())

    async def _watched(self, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        async for piece in body:
            self._moved()
            yield piece


def _mover(idle: asyncio.Timeout, seconds: float) -> Callable[[], None]:
    """Return what to call whenever something moves, so that the timeout begins anew."""
    loop = asyncio.get_running_loop()

    def moved() -> None:
        if not idle.expired():
            idle.reschedule(loop.time() + seconds)

    return moved
