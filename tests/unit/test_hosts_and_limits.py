"""What people write about hosts and limits gets one clear sentence when it cannot be."""

from __future__ import annotations

import pytest

from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.hosts import read_host, read_hosts
from pythonic_assistant.domain.limits import SandboxLimits, read_limits, within


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("https://api.github.com", "has a scheme"),
        ("*.github.com", "has a wildcard"),
        ("api.github.com/v3", "more than a name"),
        ("api.github.com:443", "more than a name"),
        ("me@api.github.com", "more than a name"),
        ("127.0.0.1", "is an address"),
        ("127.1", "is an address"),
        ("2130706433", "is an address"),
        ("0x7f.0x1", "is an address"),
        ("a.0177", "is an address"),
        ("[::1]", "more than a name"),
        ("localhost", "is no host name"),
        ("", "is no host name"),
        ("-a.example", "is no host name"),
        ("a..example", "is no host name"),
        ("exämple.org", "is no host name"),
        ("a b.example", "is no host name"),
        ("a.example\n", None),
    ],
)
def test_a_host_is_a_name_alone(text: str, problem: str | None) -> None:
    if problem is None:
        assert read_host(text) == "a.example"
        return
    with pytest.raises(InvalidInputError, match=problem):
        read_host(text)


def test_hosts_are_kept_once_and_in_order() -> None:
    assert read_hosts([" API.github.com. ", "b.example", "api.github.com"]) == ("api.github.com", "b.example")
    with pytest.raises(InvalidInputError, match="51 hosts are more than the 50"):
        read_hosts(f"h{n}.example" for n in range(51))


def test_limits_replace_what_they_name() -> None:
    limits, budget = read_limits({"memory_bytes": 1 << 28, "seconds": 60})
    assert limits == SandboxLimits(memory_bytes=1 << 28)
    assert budget == Budget(seconds=60)
    assert read_limits({"cost": 0.25})[1] == Budget(cost=0.25)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"memory_bytes": -1}, "at least 33,554,432"),
        ({"memory_bytes": 1.5}, "whole number"),
        ({"processes": True}, "whole number"),
        ({"processes": "4"}, "whole number"),
        ({"memory": 5}, "There is no limit 'memory'; the limits are memory_bytes,"),
        ({"inodes": 1 << 51}, "whole number"),
        ({"cost": 0.001}, "write US dollars, at least 0.01"),
        ({"cost": float("nan")}, "US dollars"),
        ({"cost": True}, "US dollars"),
    ],
)
def test_an_impossible_limit_is_told(given: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        read_limits(given)


def test_the_operators_caps_win() -> None:
    asked = SandboxLimits(memory_bytes=1 << 40, processes=4)
    assert within(asked, SandboxLimits()) == SandboxLimits(processes=4)
