"""The host's hold on the processes of a session: its init's channel, and handles to signal and to wait by."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pythonic_assistant.adapters.sandbox import ending
from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.adapters.sandbox.readable import readable
from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.limits import SandboxLimits

_GONE_SECONDS = 30.0  # killed processes still have to give back their memory, on a busy machine
_ANSWER_SECONDS = 30.0  # session init ends what the code left behind before it answers: `inside/family.py`
_CLOSED_SECONDS = 0.5  # between the end of the REPL's channel and its own; longer, and init is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What became of a session whose code has ended.

    Attributes:
        sentence: why, for the person and for the model.
        control: the channel of the state that took over; None where the session is gone.
    """

    sentence: str
    control: Channel | None = None


class Lifeline:
    """Ends, interrupts and rolls back; owns what it is given.

    Args:
        init: channel of the session's init, out of reach of generated code.
        init_process, code_process: pidfds.
        limits: of the session, for sentences that name them.
    """

    def __init__(self, init: Channel, init_process: int, code_process: int, limits: SandboxLimits) -> None:
        self._init = init
        self._init_process = init_process
        self._code_process = code_process
        self._limits = limits

    def interrupt(self) -> None:
        """Interrupt the code."""
        _signal(self._code_process, signal.SIGINT)

    def kill(self) -> None:
        """End the session."""
        # Init is pid 1 of the session: the kernel ends all of its processes before init is gone.
        _signal(self._init_process, signal.SIGKILL)

    async def gone(self) -> None:
        """Wait until no process of the session is left.

        Raises:
            SandboxDiedError: that takes too long.
        """
        try:
            await _ended(self._init_process, _GONE_SECONDS)
        except TimeoutError as error:
            raise SandboxDiedError(
                f"The session's processes did not end within {_GONE_SECONDS:g} seconds of being killed; "
                "the machine is overloaded or a disk hangs."
            ) from error

    async def ending(self) -> Ending:
        """Say what became of the session; the REPL's channel is closed, so an end is certain or made so."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                message, control = await self._end()
        except TimeoutError:
            self.kill()
            return Ending(sentence="The session did not say why its code ended, and was ended itself.")
        except (EOFError, OSError, frames.FrameError):
            return Ending(sentence=ending.sentence(None, self._limits))
        kept = control is not None
        if message.get("why") == "rollback" or message.get("event") == "nothing kept":
            if not kept:
                self.kill()
            return Ending(sentence=ending.closed(kept=kept), control=control)
        return Ending(sentence=ending.sentence(message, self._limits, kept=kept), control=control)

    async def rollback(self) -> Channel | None:
        """Return to the kept state; its channel, or None where there is no such state.

        Raises:
            SandboxDiedError: the session is gone, or gives no answer and was ended.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                end, control = await self._roll_back()
        except TimeoutError as error:
            self.kill()
            raise SandboxDiedError("Rolling back took too long, and the session was ended.") from error
        except (EOFError, OSError, frames.FrameError):
            end, control = None, None
        else:
            if end.get("event") != "end":
                return control
        self.kill()
        raise SandboxDiedError(ending.sentence(end, self._limits))

    def close(self) -> None:
        """Close the handles."""
        self._init.close()
        os.close(self._init_process)
        os.close(self._code_process)

    async def _end(self) -> tuple[dict[str, Any], Channel | None]:
        """Return what became of the code, whose channel is closed, and the channel of what took over."""
        try:
            await _ended(self._code_process, _CLOSED_SECONDS)
        except TimeoutError:
            # It closed the channel and lives on, or it has not been given the time to end yet.
            return await self._roll_back()
        message, descriptors = await self._init.receive_with_descriptors(2)
        return message, self._adopted(message, descriptors)

    async def _roll_back(self) -> tuple[dict[str, Any], Channel | None]:
        """Ask for the kept state.

        Returns:
            The message that says what happened, and the channel of what took over, if anything did.
        """
        control: Channel | None = None
        took_over: dict[str, Any] | None = None
        try:
            with suppress(OSError):  # it has ended; what it said last is still there to be read
                await self._init.send({"op": "rollback"})
            while True:
                message, descriptors = await self._init.receive_with_descriptors(2)
                if (adopted := self._adopted(message, descriptors)) is not None:
                    if control is not None:
                        control.close()
                    control, took_over = adopted, message
                # The code may have died by itself just before: then the state is back already, and what
                # comes next is the answer.
                if message.get("event") == "end":
                    if control is not None:
                        control.close()
                    return message, None
                if message.get("event") != "successor" or message.get("why") == "rollback":
                    return took_over or message, control
        except BaseException:
            if control is not None:
                control.close()
            raise

    def _adopted(self, message: Mapping[str, Any], descriptors: list[int]) -> Channel | None:
        """Take over the handles of the state that took the code's place, if this is what init tells."""
        if message.get("event") != "successor" or len(descriptors) != 2:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        os.close(self._code_process)
        control, self._code_process = descriptors
        return Channel(socket.socket(fileno=control))


async def _ended(process: int, seconds: float) -> None:
    """Wait until a process has ended.

    Raises:
        TimeoutError: it has not.
    """
    async with asyncio.timeout(seconds):
        await readable(process)


def _signal(process: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:  # it ended by itself
        return
