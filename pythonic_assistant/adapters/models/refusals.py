"""Turn what goes wrong between us and a model's server into one clear sentence."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

import openai

from pythonic_assistant.adapters.models.json_values import as_mapping, as_text
from pythonic_assistant.domain.errors import AssistantError, ModelRefusedError, ModelUnavailableError

_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_EXCERPT = 300


class RequestRefusedError(ModelRefusedError):
    """The server refused a request as it is; a changed one may be accepted.

    Attributes:
        status: HTTP status.
        code: the server's own word for the reason, or "".
        param: the field that the server names, or "".
        said: all that the server said, in lower case, for telling reasons apart.
    """

    def __init__(self, message: str, *, status: int, code: str = "", param: str = "", said: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.said = said

    @property
    def endpoint_missing(self) -> bool:
        """Whether the server does not have the path at all, rather than not the model."""
        return self.status in (404, 405, 501) and not self.model_unknown and "item with id" not in self.said

    @property
    def model_unknown(self) -> bool:
        """Whether the server does not have the model."""
        return self.code == "model_not_found" or (
            self.status == 404 and "model" in self.said and "<html" not in self.said
        )


def shown_url(base_url: str) -> str:
    """A base URL without user name and password."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")


def excerpt(text: str, *, without: str = "") -> str:
    """The beginning of a text on one line, with a secret blotted out."""
    if without:
        text = text.replace(without, "•••")
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT else line[: _EXCERPT - 1] + "…"


def translated(
    error: openai.APIError, *, base_url: str, path: str, model: str, api_key: str, seconds: float
) -> AssistantError:
    """The project's error for one of the OpenAI client.

    Args:
        error: what the client raised after its own retries.
        base_url: of the server; credentials in it are not shown.
        path: below the base URL.
        model: the name that was asked for.
        api_key: blotted out wherever the server repeats it.
        seconds: the read timeout, for the sentence about it.
    """
    where = f"The model's server at {shown_url(base_url)}"
    if isinstance(error, openai.APITimeoutError):
        return ModelUnavailableError(
            f"{where} did not answer within {seconds:g} seconds: try again, or choose a faster model."
        )
    if isinstance(error, openai.APIConnectionError):
        return ModelUnavailableError(_no_connection(error, shown_url(base_url)))
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, where=where, path=path, model=model, api_key=api_key)
    return ModelUnavailableError(f"{where} broke off: {excerpt(error.message, without=api_key)}")


def _of_status(
    error: openai.APIStatusError, *, where: str, path: str, model: str, api_key: str
) -> AssistantError:
    status = error.status_code
    body = as_mapping(error.body)
    inner = as_mapping(body.get("error")) or body
    words = as_text(inner.get("message")) or as_text(body.get("error")) or as_text(error.body)
    words = words or error.message
    said = excerpt(words, without=api_key)
    code = as_text(inner.get("code")) or (error.code or "")
    if status == 401:
        sentence = (
            f"{where} refused the API key: check OPENAI_API_KEY."
            if api_key
            else f"{where} asks for an API key: set OPENAI_API_KEY."
        )
        return ModelRefusedError(sentence)
    if status == 429 and (code in _QUOTA_CODES or as_text(inner.get("type")) in _QUOTA_CODES):
        return ModelRefusedError(
            f"The account of this API key has no quota left (says {shown_host(where)}): add credit with the "
            "provider, or use another key or model."
        )
    if status == 429:
        return ModelUnavailableError(
            f"{where} limits requests (429), also after waiting: try again in a few minutes."
        )
    if status >= 500 and status != 501:
        return ModelUnavailableError(
            f"{where} failed by itself ({status}), also when asked again: try later."
        )
    refused = RequestRefusedError(
        f"{where} refused the request for the model {model} ({status}): {said}",
        status=status,
        code=code,
        param=as_text(inner.get("param")) or (error.param or ""),
        said=error.response.text[:20_000].lower(),
    )
    if refused.model_unknown:
        sentence = f"{where} has no model named {model}: set PYTHONIC_MODEL to one that it has."
    elif refused.endpoint_missing:
        sentence = f"{where} has no {path} ({status}): check OPENAI_BASE_URL, which usually ends in /v1."
    elif status == 403:
        sentence = f"{where} does not let this API key use the model {model} (403): {said}"
    elif code == "context_length_exceeded" or "context length" in refused.said:
        sentence = (
            f"The conversation is longer than the model {model} can read: ask for less at once, "
            "or choose a model with a longer context."
        )
    else:
        return refused
    return RequestRefusedError(
        sentence, status=refused.status, code=refused.code, param=refused.param, said=refused.said
    )


def shown_host(where: str) -> str:
    """The address at the end of "The model's server at …"."""
    return where.rsplit(" ", 1)[-1]


def _no_connection(error: openai.APIConnectionError, url: str) -> str:
    cause: BaseException | None = error
    reasons: list[BaseException] = []
    while cause is not None and len(reasons) < 20:
        reasons.append(cause)
        cause = cause.__cause__ or cause.__context__
    words = " ".join(str(reason) for reason in reasons).lower()
    if any(isinstance(reason, socket.gaierror) for reason in reasons) or "name or service" in words:
        return f"The host of the model's server at {url} cannot be found: check OPENAI_BASE_URL."
    if any(isinstance(reason, ssl.SSLError) for reason in reasons) or "certificate" in words:
        return f"The model's server at {url} has no trusted certificate: check OPENAI_BASE_URL."
    refused = any(isinstance(reason, ConnectionRefusedError) for reason in reasons)
    if refused or "connection attempts" in words:
        return f"No model's server answers at {url}: start it, or change OPENAI_BASE_URL."
    return f"The connection to the model's server at {url} broke off or could not be made: try again."
