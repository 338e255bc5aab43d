"""Prepares an answer for the code: without the values of secrets, and not larger than it may be."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import h11

from pythonic_assistant.adapters.egress.message import Headers, answer_headers
from pythonic_assistant.adapters.egress.refusal import FailedError
from pythonic_assistant.adapters.egress.scrub import Inflater, Scrubber
from pythonic_assistant.adapters.egress.vault import Vault


def answer_head(response: h11.Response, vault: Vault, *, bodiless: bool) -> h11.Response:
    """Return the head that the code gets."""
    if not vault:
        return h11.Response(
            status_code=response.status_code,
            headers=answer_headers(response, keep_length=True),
            reason=response.reason,
        )
    headers: Headers = []
    for name, value in answer_headers(response, keep_length=bodiless):
        # Where there is no body to inflate, its headers tell of the body that there would be.
        if name.lower() == b"content-encoding" and not bodiless:
            continue
        if vault.redactor.data(name) == name:
            headers.append((name, vault.redactor.data(value)))
    return h11.Response(
        status_code=response.status_code, headers=headers, reason=vault.redactor.data(response.reason)
    )


def answer_body(
    response: h11.Response, body: AsyncIterator[bytes], vault: Vault, *, bodiless: bool
) -> AsyncIterator[bytes]:
    """Return the body that the code gets.

    Raises:
        FailedError: it is compressed in a way that cannot be searched.
    """
    if not vault or bodiless:
        return body
    encodings = [
        part.strip().decode("latin-1").lower()
        for name, value in response.headers
        if name == b"content-encoding"
        for part in value.split(b",")
    ]
    found = [encoding for encoding in encodings if encoding not in ("", "identity")]
    if len(found) > 1:
        raise FailedError("The answer is compressed more than once; it cannot be searched for secrets.")
    return _scrubbed(_inflated(body, Inflater(found[0])) if found else body, vault)


def has_no_body(method: str, status: int) -> bool:
    """RFC 9112, 6.3."""
    return method == "HEAD" or status in (204, 304)


async def _inflated(body: AsyncIterator[bytes], inflater: Inflater) -> AsyncGenerator[bytes]:
    async for compressed in body:
        for piece in inflater.feed(compressed):
            yield piece
    yield inflater.finish()


async def _scrubbed(body: AsyncIterator[bytes], vault: Vault) -> AsyncGenerator[bytes]:
    scrubber = Scrubber(vault.redactor, vault.words)
    async for piece in body:
        yield scrubber.feed(piece)
    yield scrubber.finish()
