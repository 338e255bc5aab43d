"""Signs AWS requests again: code signs with placeholders, the host with the real pair.

Signature version 4, https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html,
as botocore makes it. What code has signed says who it is (a placeholder), where and for which service;
everything else is computed anew.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from pythonic_assistant.adapters.egress.refusal import RefusedError
from pythonic_assistant.domain.secret import BoundSecret

Headers = list[tuple[bytes, bytes]]

_SCOPE: Final = r"([^/,\s]{1,200})/[0-9]{8}/([a-z0-9-]{1,40})/([a-z0-9-]{1,60})/aws4_request"
_AUTHORIZATION: Final = re.compile(
    rf"AWS4-HMAC-SHA256\s+Credential={_SCOPE}\s*,\s*SignedHeaders=([a-z0-9;_-]+)\s*,\s*Signature=[0-9a-f]+"
)
_CREDENTIAL: Final = re.compile(_SCOPE)
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_S3: Final = frozenset({"s3", "s3-object-lambda", "s3-outposts", "s3express"})
_LONGEST_EXPIRY: Final = 7 * 24 * 3600  # of presigned addresses
_REPLACED: Final = frozenset({b"authorization", b"x-amz-security-token", b"x-amz-date"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An access key of AWS.

    Attributes:
        names: of the secrets that it consists of.
    """

    key_id: str
    secret_key: str
    token: str | None
    names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Pair(names={self.names!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What code has signed with, and how.

    Attributes:
        key_id: as code knows it, a placeholder perhaps.
        signed: lower-case names of the headers that are signed.
        presigned: in the query instead of a header.
    """

    key_id: str
    region: str
    service: str
    signed: frozenset[str]
    presigned: bool


def read_signature(target: bytes, headers: Headers) -> Signature | None:
    """Find a signature in a request; None when there is none of AWS.

    Raises:
        RefusedError: it is malformed, or of a version that cannot be made again.
    """
    authorization = next((v for n, v in headers if n.lower() == b"authorization"), b"").decode("latin-1")
    if authorization.startswith("AWS4-HMAC-SHA256"):
        found = _AUTHORIZATION.fullmatch(authorization.strip())
        if found is None:
            raise RefusedError("The AWS signature cannot be read: let boto3 or botocore sign the request.")
        key_id, region, service, signed = found.groups()
        return Signature(
            key_id=key_id,
            region=region,
            service=service,
            signed=frozenset(signed.split(";")),
            presigned=False,
        )
    query = dict(parse_qsl(urlsplit(target.decode("latin-1")).query))
    if authorization.startswith(("AWS ", "AWS4-")) or query.get("X-Amz-Algorithm", "AWS4-HMAC-SHA256") != (
        "AWS4-HMAC-SHA256"
    ):
        raise RefusedError(
            "Only signature version 4 of AWS works here: set signature_version='v4' or 's3v4'."
        )
    if "X-Amz-Credential" not in query:
        return None
    found = _CREDENTIAL.fullmatch(query["X-Amz-Credential"])
    if found is None:
        raise RefusedError("The AWS credential in the address cannot be read: presign it with boto3.")
    key_id, region, service = found.groups()
    return Signature(
        key_id=key_id,
        region=region,
        service=service,
        signed=frozenset(query.get("X-Amz-SignedHeaders", "host").lower().split(";")),
        presigned=True,
    )


def pair_of(key_id: str, host: str, secrets: Sequence[BoundSecret]) -> Pair | None:
    """Return the pair whose key id has this placeholder; None when it is no placeholder of the host's.

    Raises:
        RefusedError: its secret half is not there for this host.
    """
    by_name = {secret.name: secret for secret in secrets}
    found = next((secret for secret in secrets if secret.placeholder == key_id), None)
    if found is None:
        return None
    prefix = found.name.removesuffix("ACCESS_KEY_ID")
    secret = by_name.get(f"{prefix}SECRET_ACCESS_KEY")
    if prefix == found.name or secret is None:
        raise RefusedError(
            f"The AWS request is signed with {found.name}, but there is no secret "
            f"{prefix if prefix != found.name else ''}SECRET_ACCESS_KEY for {host} beside it."
        )
    token = by_name.get(f"{prefix}SESSION_TOKEN")
    return Pair(
        key_id=found.value,
        secret_key=secret.value,
        token=None if token is None else token.value,
        names=tuple(part.name for part in (found, secret, token) if part is not None),
    )


def payload_hash(signature: Signature, headers: Headers, body: bytes | None, *, tls: bool) -> str:
    """What stands for the body in the signature.

    Args:
        body: None while it is passed on as it comes.

    Raises:
        RefusedError: the body cannot be signed.
    """
    given = next((v for n, v in headers if n.lower() == b"x-amz-content-sha256"), b"").decode("latin-1")
    if given.startswith("STREAMING-"):
        if given == _TRAILER:
            return _TRAILER
        raise RefusedError(
            "Chunks that are signed one by one cannot be signed again: use boto3 over https, which signs the "
            "head alone."
        )
    if signature.service in _S3 and (signature.presigned or given == _UNSIGNED):
        return _UNSIGNED
    if body is not None:
        return hashlib.sha256(body).hexdigest()
    if _HASH.fullmatch(given):
        return given
    if signature.service in _S3 and tls:
        return _UNSIGNED
    raise RefusedError("The body of an AWS request is too large to be signed: send it in parts.")


def sign(
    signature: Signature,
    pair: Pair,
    *,
    method: str,
    authority: str,
    target: bytes,
    headers: Headers,
    payload: str,
) -> tuple[bytes, Headers]:
    """Return target and headers with a signature of the real pair, as of now."""
    auth: Any = importlib.import_module("botocore.auth")  # a tenth of a second, for those who need it
    credentials: Any = importlib.import_module("botocore.credentials").Credentials
    request_class: Any = importlib.import_module("botocore.awsrequest").AWSRequest

    text = target.decode("latin-1")
    path, _, query = text.partition("?")
    arguments: list[Any] = [
        credentials(pair.key_id, pair.secret_key, pair.token),
        signature.service,
        signature.region,
    ]
    s3 = signature.service in _S3
    if signature.presigned:
        expires = dict(parse_qsl(query)).get("X-Amz-Expires", "3600")
        arguments.append(min(int(expires), _LONGEST_EXPIRY) if expires.isdecimal() else 3600)
        text = path + "?" + "&".join(_without_signature(query.split("&")))
        signer = (auth.S3SigV4QueryAuth if s3 else auth.SigV4QueryAuth)(*arguments)
    else:
        signer = (auth.S3SigV4Auth if s3 else auth.SigV4Auth)(*arguments)
    signer.payload = _constant(payload)
    kept = [(name, value) for name, value in headers if name.lower() not in _REPLACED]
    request = request_class(method=method, url=f"https://{authority}{text}")
    request.headers["Host"] = authority
    for name, value in kept:
        lower = name.decode("latin-1").lower()
        if lower == "x-amz-content-sha256":
            request.headers[lower] = payload
        elif lower in signature.signed:
            request.headers[lower] = value.decode("latin-1")
    signer.add_auth(request)
    if signature.presigned:
        signed = urlsplit(str(request.url))
        return f"{signed.path or '/'}?{signed.query}".encode("latin-1"), kept
    made = {name.lower().encode(): value.encode("latin-1") for name, value in request.headers.items()}
    wanted = (*_REPLACED, b"x-amz-content-sha256")
    return target, [
        *((name, value) for name, value in kept if name.lower() not in wanted),
        *((name, made[name]) for name in wanted if name in made),
    ]


def _constant(payload: str) -> Callable[[object], str]:
    return lambda _: payload


def _without_signature(parameters: Iterable[str]) -> list[str]:
    """Leave out what presigning adds."""
    ours = {
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-signedheaders",
        "x-amz-signature",
        "x-amz-security-token",
    }
    return [part for part in parameters if part and part.partition("=")[0].lower() not in ours]
