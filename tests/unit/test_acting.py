"""What of a request is an action, when two are the same one, and what a preview shows."""

from __future__ import annotations

from typing import Any

import pytest

from pythonic_assistant.adapters.egress.acting import action_of, only_reads
from pythonic_assistant.adapters.egress.message import Head
from pythonic_assistant.adapters.egress.policy import Target

SIGNED = (b"Authorization", b"AWS4-HMAC-SHA256 Credential=PLACEHOLDER_AWS_ACCESS_KEY_ID_0123456789abcdef/x")
FORM = (b"Content-Type", b"application/x-www-form-urlencoded; charset=utf-8")
AWS = "ce.us-east-1.amazonaws.com"


def head(method: str = "POST", path: bytes = b"/", *headers: tuple[bytes, bytes]) -> Head:
    return Head(method=method, target=path, headers=list(headers), length=None, has_body=True)


def target(host: str = AWS) -> Target:
    return Target(scheme="https", host=host, port=443, tls=True)


def named(operation: str) -> tuple[bytes, bytes]:
    return (b"X-Amz-Target", f"AWSInsightsIndexService.{operation}".encode())


@pytest.mark.parametrize(
    ("request_head", "host", "body", "reads"),
    [
        (head("POST", b"/", SIGNED, named("GetCostAndUsage")), AWS, b"{}", True),
        (head("POST", b"/", SIGNED, FORM), AWS, b"Action=DescribeInstances&Version=1", True),
        (head("POST", b"/", SIGNED, named("GetCostAndUsage")), "api.example.org", b"{}", False),
        (head("POST", b"/", SIGNED, named("GetCostAndUsage")), "amazonaws.com.example.org", b"{}", False),
        (head("POST", b"/", named("GetCostAndUsage")), AWS, b"{}", False),
        (head("PUT", b"/", SIGNED, named("GetCostAndUsage")), AWS, b"{}", False),
        (head("POST", b"/", SIGNED, named("GetSessionToken")), AWS, b"{}", False),
        (head("POST", b"/", SIGNED, named("Getaway")), AWS, b"{}", False),
        (head("POST", b"/", SIGNED, named("DeleteCostCategory")), AWS, b"{}", False),
        (head("POST", b"/", SIGNED, named("GetX"), named("DeleteX")), AWS, b"{}", False),
        (head("POST", b"/?Action=DeleteX", SIGNED, FORM), AWS, b"Action=GetX", False),
        (head("POST", b"/", SIGNED, FORM), AWS, b"Action=GetX&Action=DeleteX", False),
        (head("POST", b"/", SIGNED), AWS, b"Action=GetX", False),
        (head("POST", b"/", SIGNED, named("GetX"), (b"X-HTTP-Method-Override", b"DELETE")), AWS, b"", False),
    ],
)
def test_only_a_question_to_aws_is_reading(request_head: Head, host: str, body: bytes, reads: bool) -> None:
    assert only_reads(request_head, target(host), body, whole=True) is reads
    assert not only_reads(request_head, target(host), body, whole=False)


def digest(*arguments: Any, body: bytes = b"", host: str = AWS) -> str:
    return action_of(head(*arguments), target(host), body, whole=True).digest


def test_the_same_action_is_known_by_what_it_does() -> None:
    boundary = "multipart/form-data; boundary="
    same = [
        (
            digest("POST", b"/a?x=1&X-Amz-Date=1&X-Amz-Signature=aa", (b"Date", b"today")),
            digest("POST", b"/a?x=1&X-Amz-Date=2&X-Amz-Signature=bb", (b"Date", b"tomorrow")),
        ),
        (
            digest("POST", b"/", body=b'{"t": "PLACEHOLDER_TOKEN_0123456789abcdef"}'),
            digest("POST", b"/", body=b'{"t": "PLACEHOLDER_TOKEN_fedcba9876543210"}'),
        ),
        (
            digest("POST", b"/", (b"Content-Type", f"{boundary}abc".encode()), body=b"--abc\r\nx\r\n--abc--"),
            digest("POST", b"/", (b"Content-Type", f"{boundary}xyz".encode()), body=b"--xyz\r\nx\r\n--xyz--"),
        ),
    ]
    assert all(one == two for one, two in same)
    different = [
        digest("POST", b"/a"),
        digest("PUT", b"/a"),
        digest("POST", b"/b"),
        digest("POST", b"/a?x=1"),
        digest("POST", b"/a", body=b"x"),
        digest("POST", b"/a", host="api.example.org"),
        digest("POST", b"/a", (b"X-HTTP-Method-Override", b"DELETE")),
        digest("POST", b"/a", named("DeleteX")),
        digest("POST", b"/a", body=b"PLACEHOLDER_OTHER_0123456789abcdef"),
    ]
    assert len(set(different)) == len(different)


def test_every_header_is_part_of_the_action_but_those_of_one_sending() -> None:
    def moved(*headers: tuple[bytes, bytes]) -> str:
        return digest("MOVE", b"/a", *headers, host="dav.example.org")

    different = [
        moved((b"Destination", b"/b")),
        moved((b"Destination", b"/c")),
        moved((b"Destination", b"/b"), (b"Overwrite", b"F")),
        moved((b"Dropbox-API-Arg", b'{"path": "/x"}')),
        moved((b"Dropbox-API-Arg", b'{"path": "/y"}')),
        moved((b"X-Amz-Copy-Source", b"/bucket/one")),
        moved((b"Content-Type", b"application/json")),
        moved((b"If-Match", b'"1"')),
        moved((b"To", b"PLACEHOLDER_ANN_0123456789abcdef")),
        moved((b"To", b"PLACEHOLDER_BOB_0123456789abcdef")),
        moved(),
    ]
    assert len(set(different)) == len(different)
    assert moved((b"B", b"1"), (b"a", b"2")) == moved((b"A", b"2"), (b"b", b"1"))
    of_one_sending = [
        b"Authorization",
        b"Proxy-Authorization",
        b"Cookie",
        b"Date",
        b"X-Amz-Date",
        b"X-Amz-Security-Token",
        b"X-Amz-Content-SHA256",
        b"Signature",
        b"User-Agent",
        b"Accept",
        b"Accept-Encoding",
        b"Traceparent",
        b"Tracestate",
        b"Idempotency-Key",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Connection",
        b"Host",
        b"TE",
        b"Expect",
        b"X-Request-ID",
        b"X-Correlation-ID",
        b"X-Client-Request-Id",
        b"X-MS-Client-Request-Id",
        b"X-MS-Date",
        b"Amz-Sdk-Invocation-Id",
        b"Amz-Sdk-Request",
        b"X-Stainless-Retry-Count",
        b"X-Amzn-Trace-Id",
        b"X-Goog-Api-Client",
    ]
    for name in of_one_sending:
        assert moved((name, b"one")) == moved((name, b"two")) == moved(), name
    # Each attempt has other placeholders for the same secret.
    again = (b"To", b"PLACEHOLDER_ANN_fedcba9876543210")
    assert moved(again) == moved((b"To", b"PLACEHOLDER_ANN_0123456789abcdef"))


def test_a_preview_shows_all_that_counts_and_no_credential() -> None:
    request = head(
        "POST",
        "/a\u202eb".encode("latin-1", "replace"),
        (b"Authorization", b"Basic c2VjcmV0Og=="),
        (b"X-Token", b"PLACEHOLDER_TOKEN_0123456789abcdef"),
        (b"X-HTTP-Method-Override", b"DELETE"),
    )
    body = "pay Ann\u200b 100\u202e001".encode()
    preview = action_of(request, target(), body, whole=True).preview
    assert preview["form"] == "request"
    assert preview["headers"] == [
        {"name": "Authorization", "value": "(not shown: 18 characters)"},
        {"name": "X-Token", "value": "{TOKEN}"},
        {"name": "X-HTTP-Method-Override", "value": "DELETE"},
    ]
    assert preview["body"] == "pay Ann⟨U+200B⟩ 100⟨U+202E⟩001"
    long = action_of(head(), target(), b"x" * 200_000, whole=True).preview
    assert "134,464 characters are not shown here" in long["body"]
    assert long["body_note"] == "134,464 characters in the middle are not shown."
    assert (
        "bytes that are no text" in action_of(head(), target(), b"\xff\xfe", whole=True).preview["body_note"]
    )
