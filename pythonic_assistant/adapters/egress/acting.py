"""Requests that may change something, as the ledger knows them: what is done, and what came of it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final, cast
from urllib.parse import parse_qsl

import h11

from pythonic_assistant.adapters.egress.message import Head, Headers
from pythonic_assistant.adapters.egress.policy import Target
from pythonic_assistant.adapters.egress.refusal import FailedError
from pythonic_assistant.domain.effect import Action, Done, Outcome, digest_of, nameless
from pythonic_assistant.domain.visible import visible

SHOWN_BYTES: Final = 64 << 10
"""Of a body in ledger and preview; of a longer one beginning, end and digest, and how much is missing."""
IDEMPOTENCY_KEY: Final = b"idempotency-key"

_READS: Final = re.compile(r"(?:Get|List|Describe|BatchGet|Lookup|Search)[A-Z][A-Za-z0-9]*")
"""Operations of AWS that are named like questions."""
_NO_READS: Final = frozenset({"GetSessionToken", "GetFederationToken", "GetAuthorizationToken"})
"""Named like questions, but what they answer is a new credential."""
_AWS_HOST: Final = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(?:\.cn)?")
_BOUNDARY: Final = re.compile(rb'boundary="?([^";,\s]{1,200})', re.IGNORECASE)
_PLACEHOLDER: Final = re.compile(rb"PLACEHOLDER_([A-Z][A-Z0-9_]{0,63})_[0-9a-f]{16}")
_MEANT: Final = frozenset(
    {b"x-amz-target", b"x-http-method-override", b"x-http-method", b"x-method-override"}
)
"""Headers that say what a POST does, as method and path do."""
_SAYS_NOTHING: Final = re.compile(
    rb"""
    # who asks, with which proof, and in which session
    authorization | proxy-.* | cookie2? | x-api-key | x-auth-token
    | x-amz-(?:date|security-token|signature|credential|algorithm|signedheaders|expires)
    | x-ms-date | x-goog-date | x-date | date | x-(?:request-)?timestamp | signature-input
    | (?:.*-)?(?:signature|nonce) | x-signature-.*
    # who the client is, and which form of answer it likes
    | user-agent | x-amz-user-agent | x-goog-api-client | x-stripe-client-.* | x-stainless-.*
    | accept | accept-.*
    # drawn anew for each request or each try of it
    | (?:x-)?(?:client-)?(?:request|correlation|trace)-id | x-ms-(?:client-)?request-id | amz-sdk-.*
    | traceparent | tracestate | baggage | sentry-trace | x-amzn-trace-id | x-cloud-trace-context
    | b3 | x-b3-.* | x-datadog-.* | idempotency-key | x-goog-gcs-idempotency-token
    # how the message is framed on this connection
    | host | content-length | transfer-encoding | connection | keep-alive | te | trailer | expect | upgrade
    """,
    re.VERBOSE,
)
"""Names of headers, in lower case, that may differ between two requests which do the same."""
_OF_BODY: Final = re.compile(rb"x-amz-content-sha256|content-md5|(?:content-|repr-)?digest")
"""Computed from the body, with its boundaries and placeholders; they add nothing to one that is compared."""
_OF_SIGNATURES: Final = re.compile(
    rb"(?i)x-amz-(?:date|signature|credential|security-token|expires|algorithm|signedheaders)="
)
_CREDENTIALS: Final = frozenset(
    {"authorization", "cookie", "x-api-key", "x-auth-token", "x-amz-security-token"}
)
_NOT_KEPT: Final = frozenset({b"content-length", b"set-cookie", b"set-cookie2", b"date", b"connection"})


async def first_of(body: AsyncIterator[bytes], most: int) -> tuple[bytes, bool, AsyncIterator[bytes]]:
    """Read a body as far as it is compared; returns that, whether it is all, and the whole body again."""
    read = bytearray()
    async for piece in body:
        read += piece
        if len(read) > most:
            return bytes(read), False, _chain(bytes(read), body)
    return bytes(read), True, _chain(bytes(read), None)


async def _chain(first: bytes, rest: AsyncIterator[bytes] | None) -> AsyncGenerator[bytes]:
    if first:
        yield first
    if rest is not None:
        async for piece in rest:
            yield piece


def only_reads(head: Head, target: Target, body: bytes, *, whole: bool) -> bool:
    """Whether a POST is a question to AWS, whose services ask by POST: Get, List, Describe and the like.

    The operation is named by X-Amz-Target or by `Action=` in a form, once and nowhere else.
    """
    if head.method != "POST" or not whole or not _AWS_HOST.fullmatch(target.host):
        return False
    if not head.value(b"authorization").startswith("AWS4-HMAC-SHA256"):
        return False
    names = [v.decode("latin-1") for n, v in head.headers if n.lower() == b"x-amz-target"]
    if b"?" in head.target or any(n.lower() in _MEANT - {b"x-amz-target"} for n, _ in head.headers):
        return False
    if names:
        operation = names[0].rpartition(".")[2] if len(names) == 1 else ""
    elif head.value(b"content-type").partition(";")[0].strip() == "application/x-www-form-urlencoded":
        actions = [v for n, v in parse_qsl(body.decode("latin-1"), keep_blank_values=True) if n == "Action"]
        operation = actions[0] if len(actions) == 1 else ""
    else:
        return False
    return bool(_READS.fullmatch(operation)) and operation not in _NO_READS


def action_of(head: Head, target: Target, body: bytes, *, whole: bool) -> Action:
    """Describe a request as the code made it, before secrets are put in.

    Two requests are the same action when method, URL, headers and body are, whatever is signed, dated or
    drawn by chance around them: credentials, signatures, request ids, boundaries of forms, placeholders.

    Args:
        body: as far as it was read.
        whole: whether that is all of it.
    """
    path, _, query = head.target.partition(b"?")
    pairs = [pair for pair in query.split(b"&") if pair and not _OF_SIGNATURES.match(pair)]
    boundary = _boundary_of(head)
    told = [(n.lower(), _nameless(_without(boundary, v))) for n, v in head.headers]
    # Sorted by name alone: the order of values of one name may count.
    meant = sorted(
        (p for p in told if not _SAYS_NOTHING.fullmatch(p[0]) and not (whole and _OF_BODY.fullmatch(p[0]))),
        key=lambda pair: pair[0],
    )
    name = visible(nameless(f"{head.method} {target.host}{path.decode('latin-1')}"))[:300]
    digest = digest_of(
        "request",
        head.method,
        target.scheme.encode(),
        f"{target.host}:{target.port}".encode(),
        _nameless(path),
        _nameless(b"&".join(pairs)),
        *(part for pair in meant for part in pair),
        _nameless(_without(boundary, body)),
        b"" if whole else f"longer: {head.length}".encode(),
    )
    chosen = head.value(IDEMPOTENCY_KEY)
    chosen = "" if "PLACEHOLDER_" in chosen or len(chosen) > 300 else chosen
    request = {
        "method": head.method,
        "url": visible(nameless(f"{target.scheme}://{target.authority}{head.target.decode('latin-1')}")),
        "headers": [_shown_header(n, v) for n, v in head.headers],
        **_shown_body(body, whole=whole),
    }
    return Action(
        kind="request",
        name=name,
        digest=digest,
        risk="write",
        request=request,
        preview={"form": "request", **request},
        standing={"host": target.host, "method": head.method},
        idempotency_key=chosen or None,
        repeatable=bool(chosen),
    )


def with_key(headers: Headers, key: str) -> Headers:
    """Return the headers with the idempotency key under which the request was first sent."""
    return [(n, key.encode("latin-1", "replace") if n.lower() == IDEMPOTENCY_KEY else v) for n, v in headers]


def outcome_of(status: int) -> Outcome:
    """What a status says: 4xx is a refusal (RFC 9110, 15.5), so nothing was done."""
    return "failed" if 400 <= status < 500 else "succeeded"


def record_of(head: h11.Response, body: bytes | None) -> dict[str, Any]:
    """Write an answer down; `body` is None when it was too large.

    Cookies are left out: they are credentials, which the database does not get.
    """
    record: dict[str, Any] = {
        "status": head.status_code,
        "reason": head.reason.decode("latin-1"),
        "headers": [
            [n.decode("latin-1"), v.decode("latin-1")]
            for n, v in head.headers.raw_items()
            if n.lower() not in _NOT_KEPT
        ],
    }
    if body is None:
        return record | {"too_large": True}
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    return record | ({"base64": base64.b64encode(body).decode()} if "\0" in text else {"text": text})


def answer_of(done: Done, target: Target, most: int) -> tuple[h11.Response, bytes]:
    """Read a recorded answer.

    Raises:
        FailedError: there is none that could be given; it says what is known.
    """
    record = _record_in(done.result)
    if "status" not in record:
        raise FailedError(
            f"This was sent to {target.host} before and is not sent again. "
            + (done.error or "Its answer was not kept.")
        )
    if record.get("too_large"):
        raise FailedError(
            f"This was sent to {target.host} before and answered with status {record['status']}. It is not "
            f"sent again, and the answer was larger than {most:,} bytes, so it was not kept."
        )
    body = base64.b64decode(record["base64"]) if "base64" in record else str(record.get("text", "")).encode()
    status = int(record["status"])
    headers = [(str(n).encode("latin-1"), str(v).encode("latin-1")) for n, v in record.get("headers", [])]
    if status not in (204, 304):
        headers.append((b"Content-Length", str(len(body)).encode()))
    headers.append((b"X-Pythonic-Recorded", b"1"))
    reason = str(record.get("reason", "")).encode("latin-1", "replace")
    return h11.Response(status_code=status, headers=headers, reason=reason), body


def _record_in(result: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", result) if isinstance(result, dict) else {}


def _boundary_of(head: Head) -> bytes:
    found = _BOUNDARY.search(head.value(b"content-type").encode("latin-1"))
    return b"" if found is None else found.group(1)


def _without(boundary: bytes, data: bytes) -> bytes:
    return data.replace(boundary, b"boundary") if boundary else data


def _nameless(data: bytes) -> bytes:
    return _PLACEHOLDER.sub(rb"{\1}", data)


def _shown_header(name: bytes, value: bytes) -> dict[str, str]:
    told, text = name.decode("latin-1"), value.decode("latin-1")
    if told.lower() in _CREDENTIALS:
        named = nameless(text)
        text = named if named != text and "Signature=" not in text else f"(not shown: {len(text)} characters)"
    return {"name": visible(told), "value": visible(nameless(text))}


def _shown_body(body: bytes, *, whole: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"body_bytes": len(body), "body_sha256": hashlib.sha256(body).hexdigest()}
    if not whole:
        shown["body_note"] = f"The body is longer than the {len(body):,} bytes that were looked at."
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return shown | {"body": "", "body_note": f"{len(body):,} bytes that are no text."}
    if len(text) > SHOWN_BYTES:
        half = SHOWN_BYTES // 2
        shown["body_note"] = f"{len(text) - 2 * half:,} characters in the middle are not shown."
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters are not shown here …\n{text[-half:]}"
    return shown | {"body": visible(nameless(text))}
