"""Listens: a TCP port on loopback or a Unix socket, served by Hypercorn until told to stop."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from hypercorn import asyncio as hypercorn_asyncio
from hypercorn.config import Config

from embedded_supabase.gateway.asgi import Receive, Scope, Send
from pythonic_assistant.domain.errors import ConfigurationError

App = Callable[[Scope, Receive, Send], Awaitable[None]]
BACKLOG = 256
FRAME_BYTES = 320 << 10
"""Largest WebSocket frame: 256 KiB of payload, as on hosted Supabase, and what JSON puts around it."""


def listen_on_loopback(port: int) -> socket.socket:
    """Open a listening socket on 127.0.0.1; 0 is any free port.

    Raises:
        ConfigurationError: the port is taken, or may not be used.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"Port {port} on 127.0.0.1 is taken by another programme: stop it, or choose another port "
                "with PYTHONIC_SUPABASE_PORT."
            ) from error
        raise ConfigurationError(f"Port {port} on 127.0.0.1 cannot be used: {error.strerror}.") from error
    return listener


def listen_on_unix(path: Path) -> socket.socket:
    """Open a listening Unix socket that only its owner may use."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


async def serve(app: App, listener: socket.socket, until: asyncio.Event) -> None:
    """Serve an application on a listening socket until the event is set; takes the socket over."""
    config = Config()
    config.bind = [f"fd://{os.dup(listener.fileno())}"]
    listener.close()
    config.graceful_timeout = 1.0
    # Hypercorn lets go of a connection that its client has closed only when this time is over, so it is also
    # how long such connections pile up. Longer than the 5 s for which the clients' own pools keep theirs, so
    # that none is closed here in the moment in which it is used again.
    config.keep_alive_timeout = 8.0
    config.websocket_max_message_size = FRAME_BYTES
    config.websocket_ping_interval = 20.0
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    hypercorn = cast(Any, hypercorn_asyncio)  # its ASGI types are wider than any application
    await hypercorn.serve(app, config, shutdown_trigger=until.wait)
