"""AWS with placeholders: boto3 in the session's place, moto as AWS, the signatures made again between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
import httpx
import pytest
from botocore.auth import S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer

from pythonic_assistant.adapters.egress.policy import Route
from pythonic_assistant.domain.secret import BoundSecret
from tests.egress.conftest import API, Proxy, World

CE, S3, STS = "ce.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com"
HOSTS = (CE, S3, STS, API)
KEY = BoundSecret(
    name="AWS_ACCESS_KEY_ID", value="AKIAREALREALREALREAL", hosts=HOSTS, placeholder="PLACEHOLDER_K_01"
)
HALF = BoundSecret(
    name="AWS_SECRET_ACCESS_KEY", value="real/secret+key/of+forty/letters/1234567", hosts=HOSTS,
    placeholder="PLACEHOLDER_S_02",
)  # fmt: skip
TOKEN = BoundSecret(
    name="AWS_SESSION_TOKEN", value="real-session-token", hosts=HOSTS, placeholder="PLACEHOLDER_T_03"
)


SIGNED = (
    "AWS4-HMAC-SHA256 Credential=PLACEHOLDER_K_01/20261121/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=00"
)


@dataclass
class Aws:
    port: int

    @property
    def routes(self) -> list[Route]:
        return [Route(host=host, address="127.0.0.1", port=self.port, tls=False) for host in (CE, S3, STS)]


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield Aws(server.get_host_and_port()[1])
    server.stop()


def client(proxy: Proxy, service: str, **arguments: Any) -> Any:
    session = boto3.session.Session(
        aws_access_key_id=KEY.placeholder,
        aws_secret_access_key=HALF.placeholder,
        aws_session_token=arguments.pop("token", None),
        region_name="us-east-1",
    )
    options = {"s3": {"addressing_style": "path"}} if service == "s3" else {}
    return session.client(
        service,
        endpoint_url=f"https://{service}.us-east-1.amazonaws.com",
        verify=str(proxy.cafile),
        config=Config(proxies={"https": proxy.url}, retries={"max_attempts": 1}, **options),
    )


async def test_the_bill_is_read_with_a_placeholder_key(world: World, aws: Aws) -> None:
    proxy = await world.proxy(hosts=HOSTS, secrets=[KEY, HALF], routes=aws.routes)

    def bill() -> Any:
        return client(proxy, "ce").get_cost_and_usage(
            TimePeriod={"Start": "2026-11-01", "End": "2026-12-01"},
            Granularity="MONTHLY",
            Metrics=["UnblendedCost"],
        )

    assert "ResultsByTime" in await asyncio.to_thread(bill)
    (event,) = await proxy.reported(1)
    assert (event.host, event.outcome) == (CE, "allowed")
    assert event.secrets == ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


async def test_objects_are_written_and_read(world: World, aws: Aws) -> None:
    proxy = await world.proxy(hosts=HOSTS, secrets=[KEY, HALF], routes=aws.routes)
    content = b"some bytes \x00\xff" * 5000

    def store() -> tuple[bytes, int]:
        s3 = client(proxy, "s3")
        s3.create_bucket(Bucket="drawer")
        s3.put_object(Bucket="drawer", Key="a b/ü+c.bin", Body=content)
        found = s3.list_objects_v2(Bucket="drawer", Prefix="a b/")
        return s3.get_object(Bucket="drawer", Key="a b/ü+c.bin")["Body"].read(), found["KeyCount"]

    assert await asyncio.to_thread(store) == (content, 1)
    assert all(event.outcome == "allowed" for event in await proxy.reported(4))


async def test_the_caller_is_who_the_real_key_says(world: World, aws: Aws) -> None:
    proxy = await world.proxy(hosts=HOSTS, secrets=[KEY, HALF], routes=aws.routes)
    answer = await asyncio.to_thread(lambda: client(proxy, "sts").get_caller_identity())
    assert answer["Account"] == "123456789012"


def signed_anew(heard: Any, body: bytes, service: str, region: str, token: str | None) -> str:
    """The signature that the real pair gives what arrived, made by botocore for itself."""
    request = AWSRequest(method=heard.method, url=f"https://{API}{heard.target}", data=body)
    fields = heard["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    for name in fields:
        request.headers[name] = heard[name]
    auth = SigV4Auth(Credentials(KEY.value, HALF.value, token), service, region)
    request.context["timestamp"] = heard["x-amz-date"]
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return auth.signature(text, request)


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("target", ["/", "/a%20b/../c?z=1&a=%2F&a=2&empty="])
async def test_what_arrives_is_signed_by_the_real_pair(
    world: World, token: BoundSecret | None, target: str
) -> None:
    secrets = [KEY, HALF, *([token] if token else [])]
    proxy = await world.proxy(hosts=HOSTS, secrets=secrets)
    body = b'{"a": 1}'
    request = AWSRequest(
        method="POST",
        url=f"https://{API}{target}",
        data=body,
        headers={"Content-Type": "application/x-amz-json-1.1"},
    )
    credentials = Credentials(KEY.placeholder, HALF.placeholder, token.placeholder if token else None)
    SigV4Auth(credentials, "execute-api", "eu-west-1").add_auth(request)
    async with httpx.AsyncClient(proxy=proxy.url, verify=proxy.trust, trust_env=False) as code:
        raw = httpx.URL(f"https://{API}").copy_with(raw_path=target.encode())
        answer = await code.post(raw, content=body, headers=dict(request.headers.items()))
    heard = world.api.heard[0]
    assert (
        f"Credential={KEY.value}/{datetime.now(UTC):%Y%m%d}/eu-west-1/execute-api/" in heard["authorization"]
    )
    expected = signed_anew(heard, body, "execute-api", "eu-west-1", token.value if token else None)
    assert heard["authorization"].endswith(f"Signature={expected}")
    if token:
        assert heard["x-amz-security-token"] == token.value
    assert HALF.value not in repr(heard) and KEY.value not in answer.text and "PLACEHOLDER" not in repr(heard)


async def test_a_presigned_address_is_signed_again(world: World, aws: Aws) -> None:
    proxy = await world.proxy(hosts=HOSTS, secrets=[KEY, HALF], routes=world.routes)
    request = AWSRequest(method="GET", url=f"https://{API}/drawer/key?versionId=3")
    S3SigV4QueryAuth(Credentials(KEY.placeholder, HALF.placeholder), "s3", "us-east-1", expires=60).add_auth(
        request
    )
    await proxy.ask(request.url.removeprefix(f"https://{API}"))
    target = world.api.heard[0].target
    assert (
        f"X-Amz-Credential={KEY.value}%2F" in target
        and "versionId=3" in target
        and "X-Amz-Expires=60" in target
    )
    assert target.count("X-Amz-Signature=") == 1 and "PLACEHOLDER" not in target


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        (["Authorization: AWS4-HMAC-SHA256 Credential=PLACEHOLDER_K_01/x, Signature=0"], b"cannot be read"),
        (["Authorization: AWS PLACEHOLDER_K_01:c2ln"], b"signature version 4"),
        (["Authorization: AWS4-ECDSA-P256-SHA256 Credential=PLACEHOLDER_K_01/2/3"], b"signature version 4"),
        (
            [
                f"Authorization: {SIGNED}",
                "X-Amz-Content-SHA256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            ],
            b"one by one",
        ),
        (
            ["Authorization: AWS4-HMAC-SHA256 Credential=PLACEHOLDER_K_01/20261121/US/../s3/aws4_request, "
            "SignedHeaders=host, Signature=00"],
            b"cannot be read",
        ),
    ],
)  # fmt: skip
async def test_signatures_that_cannot_be_made_again_are_refused(
    world: World, headers: list[str], sentence: bytes
) -> None:
    proxy = await world.proxy(hosts=HOSTS, secrets=[KEY, HALF], routes=world.routes)
    answer = await proxy.ask("/", *headers)
    assert b" 403 " in answer and sentence in answer
    assert not world.api.heard


async def test_half_a_pair_is_refused_by_name(world: World) -> None:
    proxy = await world.proxy(hosts=HOSTS, secrets=[KEY], routes=world.routes)
    answer = await proxy.ask(
        "/",
        "Authorization: AWS4-HMAC-SHA256 Credential=PLACEHOLDER_K_01/20261121/us-east-1/s3/aws4_request, "
        "SignedHeaders=host, Signature=00",
    )
    assert b"there is no secret AWS_SECRET_ACCESS_KEY for api.example.org" in answer
