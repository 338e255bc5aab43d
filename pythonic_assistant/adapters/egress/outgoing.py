"""Prepares a request for its host: looks for what must not go there, puts secrets in, signs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from pythonic_assistant.adapters.egress import sigv4
from pythonic_assistant.adapters.egress.message import Head
from pythonic_assistant.adapters.egress.policy import Target
from pythonic_assistant.adapters.egress.refusal import RefusedError
from pythonic_assistant.adapters.egress.scrub import Held
from pythonic_assistant.adapters.egress.swap import Swapper
from pythonic_assistant.adapters.egress.vault import Vault
from pythonic_assistant.domain.secret import BoundSecret

_PLAIN: Final = frozenset({"", "identity"})
_SLICE: Final = 1 << 20


@dataclass(slots=True)
class Outgoing:
    """A request that may be sent.

    Attributes:
        body: pieces; each has been searched before it comes.
        length: of the body; None for chunks.
        secrets: names of those that were put in.
    """

    head: Head
    body: AsyncIterator[bytes] = field(repr=False)
    length: int | None
    secrets: tuple[str, ...]


async def prepare(
    head: Head, body: AsyncIterator[bytes], target: Target, vault: Vault, *, most_buffered: int
) -> Outgoing:
    """Make a request ready.

    Args:
        body: as the code sends it.
        most_buffered: bytes of a body that is searched as a whole, before anything is sent, and in which
            secrets are put; a larger one is searched while it passes as it is.

    Raises:
        RefusedError: something of it must not go to this host.
        GoneError: the code does not send it to its end.
    """
    if not vault:
        return Outgoing(head=head, body=body, length=head.length, secrets=())
    _search_head(head, target, vault)
    own = vault.of(target.host)
    buffered: bytes | None = None
    if head.length is None or head.length <= most_buffered:
        buffered, body = await _buffer(body, most_buffered)
    swapper = Swapper(own if _is_safe(target) else ())  # elsewhere they are refused, and would not be put in
    if buffered is not None:
        await _search_all(buffered, target, vault)
        if head.value(b"content-encoding").strip().lower() in _PLAIN:
            buffered = swapper.body(buffered, head.value(b"content-type"))
        body = _once(buffered)
        length: int | None = len(buffered)
    else:
        body = _searched(body, target, vault)
        length = head.length
    secrets = await _put_in(head, target, own, swapper, buffered)
    # A part of an answer may begin or end within a value that the host gives back.
    unwanted = {b"accept-encoding", b"range", b"if-range"} if secrets else {b"accept-encoding"}
    head.headers = [(n, v) for n, v in head.headers if n.lower() not in unwanted]
    head.headers.append((b"Accept-Encoding", b"identity"))  # answers are searched: see `scrub`
    return Outgoing(head=head, body=body, length=length, secrets=secrets)


async def _put_in(
    head: Head, target: Target, own: tuple[BoundSecret, ...], swapper: Swapper, body: bytes | None
) -> tuple[str, ...]:
    """Swap in path and headers, and sign for AWS where a pair of the host's is meant."""
    signature = sigv4.read_signature(head.target, head.headers) if own else None
    pair = None if signature is None else sigv4.pair_of(signature.key_id, target.host, own)
    if signature is None or pair is None:
        head.target = swapper.target(head.target)
        head.headers = swapper.headers(head.headers)
        return tuple(sorted(swapper.used))
    # Signing replaces these; a placeholder in them is not to be swapped before.
    kept = [(n, v) for n, v in head.headers if n.lower() not in (b"authorization", b"x-amz-security-token")]
    payload = await asyncio.to_thread(sigv4.payload_hash, signature, head.headers, body, tls=target.tls)
    head.target, head.headers = await asyncio.to_thread(
        sigv4.sign,
        signature,
        pair,
        method=head.method,
        authority=target.authority,
        target=head.target if signature.presigned else swapper.target(head.target),
        headers=swapper.headers(kept),
        payload=payload,
    )
    return tuple(sorted(swapper.used | set(pair.names)))


def _is_safe(target: Target) -> bool:
    """Whether secrets may go there: encrypted, or where the operator leads."""
    return target.tls or target.route is not None


def _search_head(head: Head, target: Target, vault: Vault) -> None:
    for part in (head.method.encode(), head.target, *(b": ".join(header) for header in head.headers)):
        _search(part, target, vault)


def _search(data: bytes, target: Target, vault: Vault) -> None:
    vault.refuse_foreign(target.host, data)
    if not _is_safe(target) and (named := vault.named_in(target.host, data)):
        raise RefusedError(f"The secret {named[0]} is not sent over plain http: use https://{target.host}.")


async def _search_all(body: bytes, target: Target, vault: Vault) -> None:
    """Search a body in slices that overlap, so that nobody else has to wait for long."""
    watched = vault.words | vault.placeholders
    overlap = 3 * max(map(len, watched), default=0)  # 3: percent-encoded
    for begin in range(0, len(body), _SLICE):
        _search(body[begin : begin + _SLICE + overlap], target, vault)
        await asyncio.sleep(0)


async def _buffer(body: AsyncIterator[bytes], most: int) -> tuple[bytes | None, AsyncIterator[bytes]]:
    """Read a body; when it is larger than expected, give back an iterator over all of it instead."""
    pieces = bytearray()
    async for piece in body:
        pieces += piece
        if len(pieces) > most:
            return None, _chain(bytes(pieces), body)
    return bytes(pieces), body


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _once(body: bytes) -> AsyncGenerator[bytes]:
    if body:
        yield body


async def _searched(body: AsyncIterator[bytes], target: Target, vault: Vault) -> AsyncGenerator[bytes]:
    """Search a stream across the borders of its pieces; what completes a secret is never sent."""
    held = Held(vault.foreign_words(target.host))
    async for piece in body:
        data = held.join(piece)
        _search(data, target, vault)
        if out := held.split(data):
            yield out
    if out := held.rest():
        yield out
