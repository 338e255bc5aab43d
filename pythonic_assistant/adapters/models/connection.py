"""The way to a model's server: the official client, with finite waits, and answers read as they came."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
from collections.abc import Mapping
from typing import Any

import httpx2
import openai

from pythonic_assistant.adapters.models.json_values import as_mapping
from pythonic_assistant.adapters.models.refusals import shown_url, translated
from pythonic_assistant.domain.errors import ModelReplyError, ModelUnavailableError

OPENAI_BASE_URL = "https://api.openai.com/v1"
CONNECT_SECONDS = 10.0
LONGEST_RETRY_AFTER = 120.0
"""The client waits as long as a server's Retry-After asks, up to this (openai 3.52, `_constants.py`)."""


@functools.cache
def _trusted() -> ssl.SSLContext:
    """The certificates that are trusted; reading them takes 20 ms, so a process does it once, ahead."""
    return httpx2.create_ssl_context()


class Connection:
    """Posts JSON and returns JSON; the official client repeats what met 408, 409, 429, 5xx or a timeout."""

    def __init__(self, *, api_key: str, base_url: str, model: str, timeout: float, retries: int) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            api_key: may be empty for servers that ask for none.
            base_url: as far as `/v1`.
            model: for error messages.
            timeout: seconds to wait for an answer.
            retries: how often a request is repeated.
        """
        self.base_url = base_url
        self._api_key = api_key
        self._model = model
        self._timeout = timeout
        self._retries = retries
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none",  # the client insists on a key; servers without keys ignore it
            base_url=base_url,
            timeout=httpx2.Timeout(timeout, connect=CONNECT_SECONDS),
            max_retries=retries,
            http_client=openai.DefaultAsyncHttpxClient(verify=_trusted()),
        )

    @property
    def official(self) -> bool:
        """Whether this is OpenAI's own server, which knows all of its protocol."""
        host = httpx2.URL(self.base_url).host
        return host == "api.openai.com" or host.endswith(".api.openai.com")

    async def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a request and read the answer's JSON object.

        Raises:
            ModelUnavailableError: no answer, or 429 or 5xx after the retries.
            RequestRefusedError: any other status, with what the server said about it.
            ModelRefusedError: a bad key, or no quota.
            ModelReplyError: an answer that is no JSON object, also when asked again.
        """
        text = await self._posted(path, body)
        found = _object(text)
        if found is None and not _is_page(text):
            found = _object(text := await self._posted(path, body))
        if found is not None:
            return found
        where = f"The model's server at {shown_url(self.base_url)}"
        if _is_page(text):
            raise ModelReplyError(
                f"{where} answered with a web page instead of JSON: check OPENAI_BASE_URL, "
                "which usually ends in /v1."
            )
        if not text.strip():
            raise ModelReplyError(f"{where} answered with nothing, twice: try again, or look at its log.")
        raise ModelReplyError(f"{where} answered with broken JSON, twice: try again, or look at its log.")

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        await self._client.close()

    async def _posted(self, path: str, body: Mapping[str, Any]) -> str:
        # The read timeout of the client starts anew with each byte; this one does not.
        once = CONNECT_SECONDS + self._timeout
        longest = once + self._retries * (once + LONGEST_RETRY_AFTER)
        try:
            async with asyncio.timeout(longest):
                response = await self._client.post(path, body=dict(body), cast_to=httpx2.Response)
        except openai.APIError as error:
            raise translated(
                error,
                base_url=self.base_url,
                path=path,
                model=self._model,
                api_key=self._api_key,
                seconds=self._timeout,
            ) from error
        except TimeoutError as error:
            raise ModelUnavailableError(
                f"The model's server at {shown_url(self.base_url)} did not finish its answer within "
                f"{longest:g} seconds: try again, or choose a faster model."
            ) from error
        return response.text


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        return as_mapping(json.loads(text)) or None
    except ValueError:
        return None


def _is_page(text: str) -> bool:
    return text.lstrip()[:200].lower().startswith(("<!doctype", "<html", "<?xml", "<head", "<body"))
