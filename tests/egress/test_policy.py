"""What the operator may write about private hosts, and which addresses are public."""

from __future__ import annotations

import pytest

from pythonic_assistant.adapters.egress.policy import Route, is_public, read_routes
from pythonic_assistant.domain.errors import ConfigurationError


def test_routes_are_read_in_each_of_their_forms() -> None:
    text = " wiki.example.org, A.example.org=http://127.0.0.1:5000,b.example.org=https://[fd00::5]/ ,, "
    assert read_routes(text) == (
        Route(host="wiki.example.org"),
        Route(host="a.example.org", address="127.0.0.1", port=5000, tls=False),
        Route(host="b.example.org", address="fd00::5", port=443, tls=True),
    )
    assert read_routes("") == ()


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1=http://10.0.0.1",
        "*.example.org",
        "http://a.example.org",
        "a.example.org=",
        "a.example.org=10.0.0.1",
        "a.example.org=ftp://10.0.0.1",
        "a.example.org=http://b.example.org",
        "a.example.org=http://10.0.0.1:0",
        "a.example.org=http://10.0.0.1:99999",
        "a.example.org=http://10.0.0.1/path",
        "a.example.org=http://10.0.0.1?q",
        "a.example.org=http://me@10.0.0.1",
        "a.example.org=http://[::1",
        "a.example.org, a.example.org=http://10.0.0.1",
    ],
)
def test_routes_that_make_no_sense_are_told_in_one_sentence(text: str) -> None:
    with pytest.raises(ConfigurationError, match="private host") as caught:
        read_routes(text)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "64:ff9b::5db8:d70e"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)
