"""Messages between the host and a session: what was delivered is never told to have failed."""

from __future__ import annotations

import os
import socket
import threading

from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.inside import frames


async def test_a_receiver_that_closes_at_once_has_got_the_message() -> None:
    """Else a box that works on its request would be given up, and a second one given the same streams."""
    for number in range(200):
        ours, theirs = socket.socketpair()
        got: list[dict[str, object]] = []

        def take(theirs: socket.socket = theirs, got: list[dict[str, object]] = got) -> None:
            message, descriptors = frames.receive(theirs, 1)
            theirs.close()
            got.append(message)
            os.close(descriptors[0])

        receiver = threading.Thread(target=take)
        receiver.start()
        channel = Channel(ours)
        try:
            await channel.send({"number": number}, [0])
        finally:
            receiver.join()
            channel.close()
        assert got == [{"number": number}]
