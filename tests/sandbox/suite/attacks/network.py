"""Reaching a network from a session that was granted none."""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import Attack, Layer


def _attack(name: str, code: str, meaning: str, *stopped_by: Layer, **more: Any) -> Attack:
    return Attack(name=name, group="network", code=code, meaning=meaning, stopped_by=stopped_by, **more)


_OUT = "it can send data away"
_HOST = "it can talk to services of the host"

ATTACKS = (
    _attack(
        "loopback of the host",
        "return socket.create_connection(('127.0.0.1', GIVEN['port']), 1)",
        _HOST,
        "network",
        "seccomp",
    ),
    _attack(
        "loopback by IPv6",
        "return socket.create_connection(('::ffff:127.0.0.1', GIVEN['port']), 1)",
        _HOST,
        "network",
        "seccomp",
    ),
    _attack(
        "any address of the host",
        "return socket.create_connection(('0.0.0.0', GIVEN['port']), 1)",
        _HOST,
        "network",
        "seccomp",
    ),
    _attack(
        "the internet", "return socket.create_connection(('192.0.2.1', 80), 1)", _OUT, "network", "seccomp"
    ),
    _attack(
        "the metadata service",
        "return socket.create_connection(('169.254.169.254', 80), 1)",
        "it can read the machine's cloud credentials",
        "network",
        "seccomp",
    ),
    _attack("name lookup", "return socket.getaddrinfo('example.com', 80)", _OUT, "network", "seccomp"),
    _attack(
        "name lookup by hand",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "return s.sendto(b'\\0' * 12, ('192.0.2.53', 53))",
        _OUT,
        "network",
        "seccomp",
    ),
    _attack(
        "neighbours",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n"
        "return s.sendto(b'x', ('255.255.255.255', 9))",
        _OUT,
        "network",
        "seccomp",
    ),
    _attack(
        "raw ip",
        "return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "it can forge packets",
        "capabilities",
        "seccomp",
    ),
    _attack(
        "the zygote's socket",
        "s = socket.socket(socket.AF_UNIX)\ns.connect(GIVEN['socket_path'])\nreturn 'connected'",
        "it can ask for sessions of its own making",
        "root",
        "user",
        "seccomp",
    ),
    _attack(
        "abstract socket of the host",
        "s = socket.socket(socket.AF_UNIX)\ns.connect('\\0' + GIVEN['abstract'])\nreturn 'connected'",
        _HOST,
        "network",
        "landlock",
        "seccomp",
    ),
    _attack(
        "socket file of the host",
        "s = socket.socket(socket.AF_UNIX)\ns.connect(GIVEN['socket_file'])\nreturn 'connected'",
        _HOST,
        "root",
        "seccomp",
    ),
)
