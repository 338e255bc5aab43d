"""What everyday programmes reach that are granted hosts: a web server and an AWS that wants signatures."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from pythonic_assistant.adapters.egress.local import ProxyEgress
from pythonic_assistant.adapters.egress.policy import Route
from pythonic_assistant.domain.event import EgressRequested
from pythonic_assistant.domain.secret import BoundSecret, placeholder_of
from pythonic_assistant.ports import Access
from tests.sandbox.suite.way_out import API, host
from tests.servers.aws import AwsServer

_REGION = "us-east-1"
_CE, _STS = f"ce.{_REGION}.amazonaws.com", f"sts.{_REGION}.amazonaws.com"
_KEY, _HALF = "AKIAREALREALREALREAL", "real/secret+key/of+forty/letters/1234567"  # moto takes any


def _secret(name: str, value: str, *hosts: str) -> BoundSecret:
    return BoundSecret(name=name, value=value, hosts=hosts, placeholder=placeholder_of(name))


@asynccontextmanager
async def online() -> AsyncGenerator[Access, None]:
    """Start the servers; yield a grant that leads to them, with placeholders for their keys.

    Raises:
        RuntimeError: on leaving, when AWS has turned a request away.
    """
    secrets = (
        _secret("API_TOKEN", "the-real-token-of-the-api", API),
        _secret("AWS_ACCESS_KEY_ID", _KEY, _CE, _STS),
        _secret("AWS_SECRET_ACCESS_KEY", _HALF, _CE, _STS),
    )
    reports: list[EgressRequested] = []
    with AwsServer(_KEY, _HALF) as aws:
        async with host(API, bytearray()) as port:
            aws_port = urlsplit(aws.url).port or 0
            egress = ProxyEgress(
                hosts=(API, _CE, _STS),
                report=reports.append,
                secrets=secrets,
                routes=(
                    Route(host=API, address="127.0.0.1", port=port, tls=False),
                    Route(host=_CE, address="127.0.0.1", port=aws_port, tls=False),
                    Route(host=_STS, address="127.0.0.1", port=aws_port, tls=False),
                ),
            )
            environment = {secret.name: secret.placeholder for secret in secrets}
            yield Access(environment={**environment, "AWS_DEFAULT_REGION": _REGION}, egress=egress)
        if aws.refused:
            raise RuntimeError(f"AWS turned requests away: {aws.refused[:3]}")
