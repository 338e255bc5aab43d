"""The side of the code: reads its requests strictly, one at a time, and answers them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import h11

from pythonic_assistant.adapters.egress.line import Line
from pythonic_assistant.adapters.egress.means import ProxyLimits
from pythonic_assistant.adapters.egress.refusal import GoneError, RefusedError

_LINGER_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.25
_LINGER_BYTES: Final = 8 << 20
_LONGEST_REASON: Final = 1000  # well below the longest line that any client takes


class ClientSide:
    """HTTP/1.1 as a server, over a line that may be encrypted."""

    def __init__(self, line: Line, limits: ProxyLimits) -> None:
        self._line = line
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)

    async def request(self, wait: float) -> h11.Request | None:
        """Wait for the next request's head; None when there is none any more.

        Args:
            wait: seconds until its first byte.

        Raises:
            RefusedError: what came is no HTTP/1.1.
            GoneError: it began and did not go on.
        """
        try:
            async with asyncio.timeout(wait) as patience:
                begun = False
                while (event := self._http.next_event()) is h11.NEED_DATA:
                    data = await self._line.read()
                    if not begun:
                        begun = True
                        patience.reschedule(asyncio.get_running_loop().time() + self._limits.head_seconds)
                    self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise RefusedError(
                "The request is not HTTP/1.1 as RFC 9112 has it, or its head is too large.",
                status=error.error_status_hint,
            ) from error
        except (OSError, TimeoutError) as error:
            raise GoneError from error
        return event if isinstance(event, h11.Request) else None

    async def establish(self) -> None:
        """Answer a CONNECT with yes; what follows is no HTTP of this connection.

        Raises:
            RefusedError: the code has sent something before it knew.
            GoneError: nobody takes it.
        """
        while (event := self._http.next_event()) is not h11.PAUSED:
            if event is h11.NEED_DATA:
                raise RefusedError("CONNECT has no body.", status=400)
        if self._http.trailing_data[0]:
            raise RefusedError("Wait for the answer to CONNECT before you begin TLS.", status=400)
        await self.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))

    async def body(self) -> AsyncGenerator[bytes]:
        """The request's body, piece by piece.

        Raises:
            GoneError: it broke off.
            RefusedError: its chunks are no HTTP/1.1.
        """
        try:
            while not isinstance(event := await self._part(), h11.EndOfMessage):
                yield bytes(event.data)
        except OSError as error:
            raise GoneError from error

    async def _part(self) -> Any:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                if self._line.ended:
                    raise GoneError from error
                raise RefusedError("The body is not sent as RFC 9112 has it.", status=400) from error
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
            self._http.receive_data(await self._line.read())

    async def send(
        self, event: h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage
    ) -> None:
        """Send a part of an answer.

        Raises:
            GoneError: nobody takes it.
        """
        try:
            data = self._http.send(event)
            if data:
                await self._line.write(data)
        except OSError as error:
            raise GoneError from error

    @property
    def answered(self) -> bool:
        """Whether an answer has begun, so that no other can be given."""
        return self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    async def say(self, status: int, sentence: str, *, refused: bool) -> None:
        """Answer with a sentence, and close afterwards.

        The reason phrase holds it too: it is all that clients show of a refused CONNECT.

        Raises:
            GoneError: nobody takes it.
        """
        text = sentence.encode("ascii", "replace")
        headers = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", str(len(text) + 1).encode()),
            (b"Connection", b"close"),
        ]
        if refused:
            headers.append((b"X-Pythonic-Refused", b"1"))
        await self.send(h11.Response(status_code=status, headers=headers, reason=text[:_LONGEST_REASON]))
        if self._http.our_state is h11.SEND_BODY:
            await self.send(h11.Data(data=text + b"\n"))  # h11 leaves it out where the method was HEAD
            await self.send(h11.EndOfMessage())

    async def linger(self) -> None:
        """Read on for a moment: closing over unread bytes would take the answer away from the client."""
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while left > 0 and not self._read_to_its_end():
                    async with asyncio.timeout(_PAUSE_SECONDS):
                        data = await self._line.read()
                    if not data:
                        return
                    left -= len(data)
                    if self._http.their_state is h11.SEND_BODY:
                        self._http.receive_data(data)
        except (OSError, TimeoutError, h11.RemoteProtocolError):
            return

    def _read_to_its_end(self) -> bool:
        """Drop what has arrived; whether nothing more belongs to the request. After nonsense nobody knows."""
        while self._http.their_state is h11.SEND_BODY:
            if self._http.next_event() is h11.NEED_DATA:
                return False
        return self._http.their_state is not h11.ERROR

    def again(self) -> bool:
        """Make ready for another request; False when the connection has to be closed."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True
