"""Finds out before anything starts whether the ports are free, and who holds those that are not."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import psutil

from pythonic_assistant.domain.errors import ConfigurationError

HOST = "127.0.0.1"


def require_free(ports: Mapping[str, int]) -> None:
    """Check that each port can be listened on at loopback.

    Args:
        ports: from the name of the setting to its port.

    Raises:
        ConfigurationError: one is taken or needs rights; the sentence names it, its setting and its holder.
    """
    for name, port in ports.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # Connections that have just ended must not count as a holder; a listener still does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except PermissionError as error:
                raise ConfigurationError(
                    f"Port {port} ({name}) needs rights that this user lacks: set it to one above 1023."
                ) from error
            except OSError as error:
                raise ConfigurationError(
                    f"Port {port} is taken{_holder(port)}: stop that programme, or set {name} to another."
                ) from error


def _holder(port: int) -> str:
    """` by name (process 123)` of whoever listens on a port, or nothing when the system does not tell."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or connection.pid is None:
                continue
            if connection.laddr and connection.laddr[1] == port:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):  # macOS and some containers let only root look
        return ""
    return ""
