"""Names of hosts that a session may reach: written by people, so checked once and in one place."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from pythonic_assistant.domain.errors import InvalidInputError

_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+"
)
MOST_HOSTS: Final = 50
"""A list that nobody can read is no decision of a person's."""


def read_host(text: str) -> str:
    """Return a host's name in lower case.

    Raises:
        InvalidInputError: it is an address, has a scheme, a port, a path or a wildcard, or is no name.
    """
    host = text.strip().lower().rstrip(".")
    problem = ""
    if "://" in host:
        problem = "has a scheme; write the name alone, such as api.github.com"
    elif "*" in host:
        problem = "has a wildcard; name each host by itself"
    elif "/" in host or ":" in host or "@" in host:
        problem = "has more than a name in it; leave path, port and user out"
    elif _is_address(host):
        problem = "is an address; write the host's name"
    elif not _HOST.fullmatch(host):
        problem = "is no host name; write it like api.github.com"
    if problem:
        raise InvalidInputError(f"The host {text.strip()[:100]!r} {problem}.")
    return host


def read_hosts(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the names in order, each once.

    Raises:
        InvalidInputError: as `read_host`, or there are more than `MOST_HOSTS`.
    """
    found = tuple(dict.fromkeys(read_host(text) for text in texts))
    if len(found) > MOST_HOSTS:
        raise InvalidInputError(f"{len(found)} hosts are more than the {MOST_HOSTS} that a task may reach.")
    return found


def _is_address(host: str) -> bool:
    """Whether it is an IP address in any of the forms that a resolver would take for one."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        # 127.1, 0x7f.1, 017700000001: inet_aton(3) takes them, so no name may end in a numeric label
        return bool(re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)", host.rpartition(".")[2]))
    return True
