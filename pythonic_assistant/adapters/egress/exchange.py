"""One request and its answer, from the code to its host and back, streaming both ways at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import h11

from pythonic_assistant.adapters.egress.acting import (
    action_of,
    answer_of,
    first_of,
    only_reads,
    outcome_of,
    record_of,
    with_key,
)
from pythonic_assistant.adapters.egress.client_side import ClientSide
from pythonic_assistant.adapters.egress.incoming import answer_body, answer_head, has_no_body
from pythonic_assistant.adapters.egress.means import SAFE, Means
from pythonic_assistant.adapters.egress.message import Head
from pythonic_assistant.adapters.egress.outgoing import Outgoing, prepare
from pythonic_assistant.adapters.egress.policy import Target
from pythonic_assistant.adapters.egress.refusal import FailedError, GoneError, RefusedError
from pythonic_assistant.adapters.egress.upstream import Upstream, dial
from pythonic_assistant.domain.effect import Action, Done, Go, NotAllowed, Outcome


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
        self._idle: asyncio.Timeout | None = None
        self._go: Go | None = None  # what was begun in the ledger and has not ended
        self._on_its_way = False
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
                self._moved, self._idle = _mover(idle, limits.idle_seconds), idle
                body: AsyncIterator[bytes] = self._watched(self._client.body())
                action: Action | None = None
                if head.method not in SAFE:
                    first, whole, body = await first_of(body, limits.buffered_bytes)
                    if not only_reads(head, self._target, first, whole=whole):
                        action = action_of(head, self._target, first, whole=whole)
                outgoing = await prepare(
                    head, body, self._target, self._means.vault, most_buffered=limits.buffered_bytes
                )
                self.account.secrets = outgoing.secrets
                if action is None:
                    await self._relay(outgoing)
                else:
                    await self._act(action, outgoing)
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

    async def _act(self, action: Action, outgoing: Outgoing) -> None:
        """Do what may change something once: write it down, send it, write down what came of it."""
        with self._unhurried():
            begun = await self._means.ledger.begin(action, self._means.place)
        match begun:
            case NotAllowed():
                raise RefusedError(begun.why)
            case Done():
                await self._replay(begun)
                return
            case Go():
                self._go = begun
        if action.repeatable and begun.idempotency_key:
            outgoing.head.headers = with_key(outgoing.head.headers, begun.idempotency_key)
        why = "the session ended"
        try:
            await self._relay(outgoing)
        except (RefusedError, FailedError) as error:
            why = error.sentence
            raise
        except TimeoutError:
            why = "nothing moved any more"
            raise
        except GoneError:
            why = "the code closed its side"
            raise
        finally:
            if self._begun() is not None:
                # Of what has left, nobody knows; what has not left did not happen.
                outcome: Outcome = "unknown" if self._on_its_way else "failed"
                told = f"It is not known whether {action.name} happened: {why}"
                await asyncio.shield(self._end(outcome, error=told if self._on_its_way else why))

    async def _replay(self, done: Done) -> None:
        """Give the answer that was recorded."""
        head, body = answer_of(done, self._target, self._means.limits.recorded_bytes)
        self.account.status, self.account.received = head.status_code, len(body)
        await self._client.send(head)
        if body and head.status_code not in (204, 304):
            await self._client.send(h11.Data(data=body))
        await self._client.send(h11.EndOfMessage())

    def _begun(self) -> Go | None:
        return self._go

    async def _end(self, outcome: Outcome, *, result: object = None, error: str | None = None) -> None:
        go, self._go = self._go, None
        if go is not None:
            with self._unhurried():
                await self._means.ledger.end(go.key, outcome, result=result, error=error)

    @contextmanager
    def _unhurried(self) -> Generator[None]:
        """For waits that are ours, not the host's."""
        if self._idle is not None and not self._idle.expired():
            self._idle.reschedule(None)
        try:
            yield
        finally:
            self._moved()

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
            request = h11.Request(method=head.method, target=head.target, headers=headers)
            self._on_its_way = True
            await upstream.send(request)
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
        body = self._counted(answer_body(response, upstream.body(), vault, bodiless=bodiless), too_large)
        self.account.status = response.status_code
        head = answer_head(response, vault, bodiless=bodiless)
        if self._go is not None:
            body = await self._recorded(head, body)
        await self._client.send(head)
        async for piece in body:
            if piece:
                await self._client.send(h11.Data(data=piece))
            self._moved()
        await self._client.send(h11.EndOfMessage())

    async def _counted(self, body: AsyncIterator[bytes], too_large: FailedError) -> AsyncGenerator[bytes]:
        async for piece in body:
            self.account.received += len(piece)
            if self.account.received > self._means.limits.answer_bytes:
                raise too_large
            yield piece
            self._moved()

    async def _recorded(self, head: h11.Response, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Write an answer down before the code has it: what the code does next builds on a fact."""
        outcome = outcome_of(head.status_code)
        try:
            first, whole, again = await first_of(body, self._means.limits.recorded_bytes)
        except FailedError as error:
            said = f"Its answer began with status {head.status_code} and broke off: {error.sentence}"
            await self._end(outcome, error=said)
            raise
        await self._end(outcome, result=record_of(head, first if whole else None))
        return again

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
