"""Decides where a session may go: names first, then the addresses behind them.

A name is allowed by its grant, exactly. Its addresses are resolved here and must be public, and the checked
address is what is dialled, so that a name cannot point elsewhere a moment later. What the operator routes
may be private.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from pythonic_assistant.adapters.egress.refusal import FailedError, RefusedError
from pythonic_assistant.domain.errors import ConfigurationError, InvalidInputError
from pythonic_assistant.domain.hosts import read_host

Scheme = Literal["http", "https"]
PORTS: Final[dict[Scheme, int]] = {"http": 80, "https": 443}
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_MOST_ADDRESSES: Final = 8
# RFC 4291: what is given out as global unicast; all else of IPv6 leads to ourselves, a link or nowhere.
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
# Public by their number, but served by the machine or the cloud that it runs in.
_INWARD: Final = (
    ipaddress.ip_network("192.0.0.0/24"),  # RFC 6890, IETF protocol assignments
    ipaddress.ip_network("192.88.99.0/24"),  # RFC 7526, the former relays of 6to4
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's host: metadata and agents
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A host that the operator sends somewhere private.

    Attributes:
        host: the name; it still has to be granted to a task.
        address: an IP address, or None: as the name resolves, private or not.
        port: of the address; 0 with no address: the port of the request.
        tls: whether the address speaks TLS; with no address as the request says.
    """

    host: str
    address: str | None = None
    port: int = 0
    tls: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes, by name.

    Attributes:
        scheme: as code asked.
        port: as code asked.
        tls: whether the connection to the host is encrypted.
        route: of the operator, if there is one for this host.
    """

    scheme: Scheme
    host: str
    port: int
    tls: bool
    route: Route | None = None

    @property
    def authority(self) -> str:
        """The value of the header Host."""
        return self.host if self.port == PORTS[self.scheme] else f"{self.host}:{self.port}"


def read_routes(text: str) -> tuple[Route, ...]:
    """Read what the operator wrote: `host`, `host=http://10.0.0.5:8080`, `host=https://[fd00::5]`, ….

    Raises:
        ConfigurationError: it is none of these, or a host is there twice.
    """
    routes: dict[str, Route] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, address = part.partition("=")
        try:
            host = read_host(name)
        except InvalidInputError as error:
            raise ConfigurationError(f"In the private hosts: {error}") from error
        if host in routes:
            raise ConfigurationError(f"The private host {host} is there twice: keep one of both.")
        routes[host] = _routed(host, address.strip(), part) if equals else Route(host=host)
    return tuple(routes.values())


class Policy:
    """What one grant may reach.

    Args:
        hosts: names that `read_host` has passed.
        routes: of the operator.
        resolve: finds a name's addresses; by default the host's own resolver.
    """

    def __init__(
        self, hosts: Sequence[str], routes: Sequence[Route] = (), *, resolve: Resolve | None = None
    ) -> None:
        self.hosts: Final = tuple(hosts)
        self._routes = {route.host: route for route in routes}
        self._resolve = resolve or _resolve

    def target(self, authority: str, scheme: Scheme) -> Target:
        """Decide about `host` or `host:port` as a request names it.

        Raises:
            RefusedError: it is malformed, or not allowed.
        """
        host, port = split_authority(authority, scheme)
        if host not in self.hosts:
            raise RefusedError(f"The host {host} is not allowed: {self._allowed()}", host=host, port=port)
        route = self._routes.get(host)
        if port != PORTS[scheme] and (route is None or port != route.port):
            raise RefusedError(
                f"Port {port} is not allowed: {scheme} may use port {PORTS[scheme]} only.",
                host=host,
                port=port,
            )
        tls = route.tls if route is not None and route.address is not None else scheme == "https"
        return Target(scheme=scheme, host=host, port=port, tls=tls, route=route)

    async def addresses(self, target: Target) -> tuple[str, ...]:
        """Return the addresses that may be dialled for a target.

        Raises:
            RefusedError: one of them is not public.
            FailedError: the name has none.
        """
        route = target.route
        if route is not None and route.address is not None:
            return (route.address,)
        try:
            found = tuple(dict.fromkeys(await self._resolve(target.host, target.port)))
        except OSError as error:
            raise FailedError(
                f"The name {target.host} cannot be resolved: check how it is written."
            ) from error
        if not found:
            raise FailedError(f"The name {target.host} has no address.")
        # One inward address among public ones is how rebinding looks: then none is used.
        if route is None and not all(is_public(address) for address in found):
            raise RefusedError(
                f"The host {target.host} resolves to an address that is not public; "
                "the operator may allow it as a private host."
            )
        return found[:_MOST_ADDRESSES]

    def _allowed(self) -> str:
        if not self.hosts:
            return "this task may reach no host."
        return f"this task may reach {', '.join(self.hosts)} only."


_AUTHORITY: Final = re.compile(r"([A-Za-z0-9.-]{1,254})(?::([0-9]{1,5}))?")


def split_authority(authority: str, scheme: Scheme) -> tuple[str, int]:
    """Return host and port of `host[:port]`.

    Raises:
        RefusedError: it is anything else, such as an address or one with a user's name.
    """
    found = _AUTHORITY.fullmatch(authority)
    if found is None or found.group(1).endswith(".."):
        raise RefusedError(
            "The request names no host that can be read: write https://host/path, with neither an address "
            "nor a user's name."
        )
    try:
        host = read_host(found.group(1))
    except InvalidInputError as error:
        raise RefusedError(str(error), host=found.group(1).lower()) from error
    return host, int(found.group(2) or PORTS[scheme])


def is_public(address: str) -> bool:
    """Whether an address is somewhere in the internet, whatever notation it hides in."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # with a scope, such as fe80::1%eth0
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
        if found not in _GLOBAL_UNICAST or found.sixtofour is not None or found.teredo is not None:
            return False
    return (
        found.is_global
        and not found.is_multicast
        and not found.is_reserved
        and not any(found in network for network in _INWARD)
    )


def _routed(host: str, address: str, part: str) -> Route:
    problem = ConfigurationError(
        f"The private host {part[:200]!r} cannot be read: write {host}, or {host}=http://10.0.0.5:8080, or "
        f"{host}=https://10.0.0.5, with an IP address and nothing behind the port."
    )
    try:
        url = urlsplit(address)
        port = url.port
        ip = ipaddress.ip_address(url.hostname or "")
    except ValueError as error:
        raise problem from error
    scheme = url.scheme
    if scheme not in ("http", "https") or "@" in url.netloc or url.path not in ("", "/"):
        raise problem
    if url.query or url.fragment or port == 0:
        raise problem
    return Route(host=host, address=str(ip), port=port or PORTS[scheme], tls=scheme == "https")


async def _resolve(host: str, port: int) -> Sequence[str]:
    # The final dot keeps the resolver from trying the search domains of this machine.
    found = await asyncio.get_running_loop().getaddrinfo(
        f"{host}.", port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return [str(address[4][0]) for address in found]
