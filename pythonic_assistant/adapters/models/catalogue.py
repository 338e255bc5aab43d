"""Make the model that settings describe. Nothing here reads the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from pythonic_assistant.domain.errors import ConfigurationError
from pythonic_assistant.ports import Model, ModelReply, ModelRequest

if TYPE_CHECKING:
    from pythonic_assistant.adapters.models.responses import ResponsesModel

DEFAULT_BASE_URL = "https://api.openai.com/v1"


class OwnedModel(Model, Protocol):
    """A model that holds connections."""

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Which model to ask, and how.

    Attributes:
        api_key: empty for servers that ask for none; never shown by `repr`.
        base_url: of the server, up to `/v1`; empty for OpenAI's own.
        model: the name that the server knows.
        code_format: how code is handed over; "auto" goes by what the server can do.
        protocol: "auto" is the Responses API, and Chat Completions where the server lacks it.
        timeout: seconds to wait for one answer.
        retries: how often an unanswered request, a 429 or a 5xx is repeated.
    """

    model: str
    api_key: str = field(default="", repr=False)
    base_url: str = ""
    code_format: Literal["auto", "custom", "function", "fence"] = "auto"
    protocol: Literal["auto", "responses", "chat"] = "auto"
    timeout: float = 300.0
    retries: int = 2


def model_from(settings: ModelSettings) -> OwnedModel:
    """Make the model; its server is not asked yet.

    Raises:
        ConfigurationError: a setting is missing or impossible.
    """
    base_url = (settings.base_url or DEFAULT_BASE_URL).rstrip("/")
    _ensure_possible(settings, base_url)
    # The OpenAI client takes about 0.4 s to import; the page needs this module's names without it.
    from pythonic_assistant.adapters.models.chat import ChatModel
    from pythonic_assistant.adapters.models.connection import Connection
    from pythonic_assistant.adapters.models.responses import ResponsesModel

    connection = Connection(
        api_key=settings.api_key,
        base_url=base_url,
        model=settings.model,
        timeout=settings.timeout,
        retries=settings.retries,
    )
    if settings.protocol == "chat":
        return ChatModel(connection, model=settings.model)
    responses = ResponsesModel(connection, model=settings.model, code_format=settings.code_format)
    if settings.protocol == "responses":
        return responses
    return EitherProtocol(responses, ChatModel(connection, model=settings.model))


class EitherProtocol:
    """Asks over the Responses API, and over Chat Completions from the moment that the server lacks it."""

    def __init__(self, responses: ResponsesModel, chat: OwnedModel) -> None:
        """Take both over; they share one connection."""
        self._model: OwnedModel = responses
        self._chat = chat

    @property
    def name(self) -> str:
        """The model's name as its server knows it."""
        return self._model.name

    @property
    def scripted(self) -> bool:
        """False: an AI answers."""
        return False

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        await self._model.close()

    async def respond(self, request: ModelRequest) -> ModelReply:
        """Ask once, with the retries and downgrades that are worth it. Errors: see `ports.Model`."""
        from pythonic_assistant.adapters.models.refusals import RequestRefusedError

        try:
            return await self._model.respond(request)
        except RequestRefusedError as error:
            if not error.endpoint_missing or self._model is self._chat:
                raise
        self._model = self._chat
        answered = await self._chat.respond(request)
        note = f"{self.name} is asked over Chat Completions, because its server has no Responses API."
        return ModelReply(
            reply=answered.reply, data=answered.data, usage=answered.usage, notes=(note, *answered.notes)
        )


def _ensure_possible(settings: ModelSettings, base_url: str) -> None:
    if not settings.model.strip():
        raise ConfigurationError("No model is named: set PYTHONIC_MODEL.")
    if not base_url.startswith(("http://", "https://")):
        raise ConfigurationError("OPENAI_BASE_URL has to begin with http:// or https://.")
    if base_url == DEFAULT_BASE_URL and not settings.api_key:
        raise ConfigurationError(
            "OpenAI asks for a key: set OPENAI_API_KEY, or OPENAI_BASE_URL for another server."
        )
    if not settings.api_key.isascii() or any(character.isspace() for character in settings.api_key):
        raise ConfigurationError("OPENAI_API_KEY holds characters that a key cannot have, such as spaces.")
    if settings.protocol == "chat" and settings.code_format in ("custom", "function"):
        raise ConfigurationError(
            f"Chat Completions is asked without tools: set PYTHONIC_CODE_FORMAT to auto or fence, "
            f"not {settings.code_format}."
        )
    if not 0 < settings.timeout <= 3600:
        raise ConfigurationError("The timeout of the model has to be above 0 and at most 3600 seconds.")
    if not 0 <= settings.retries <= 10:
        raise ConfigurationError("The retries of the model have to be between 0 and 10.")
