"""Every error that the project raises on purpose.

AssistantError
├── MistakeError               the caller's or the configuration's fault: say what to change
│   ├── ConfigurationError     a setting that is unknown, missing or impossible
│   └── InvalidInputError      a prompt, file or row that cannot be worked on
├── RetryableError             the same attempt may succeed later
│   ├── ModelUnavailableError  429, 5xx, timeout, no route to the model
│   ├── StoreUnavailableError  the database or its API does not answer
│   └── EventsForgottenError   the database was killed and has lost what need not have lasted
├── PermanentError             repeating changes nothing
│   ├── ModelRefusedError      bad key, unknown model, a request that the server will never take
│   ├── ModelReplyError        an empty or garbled reply, after the retries that are worth it
│   └── SandboxUnavailableError  this host cannot isolate code
├── ToolError                  a tool failed: told to the code that called it
│   └── ToolRefusedError       there is no such tool, or its schema refuses the arguments: nothing ran
├── SandboxDiedError           the session ended under its user: a result for the loop, not a crash
├── LeaseLostError             another attempt owns the task: stop, write nothing
└── BudgetExceededError        a limit of turns, tokens or seconds is spent

The message of each is one sentence or a few that a person can act on. Generated code that fails is a
result (`Execution`), never an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pythonic_assistant.domain.budget import Usage  # which imports this module


class AssistantError(Exception):
    """Base of all errors that the project raises on purpose."""


class MistakeError(AssistantError):
    """Something that a person has to change before it can work."""


class ConfigurationError(MistakeError):
    """A setting is unknown, missing or impossible."""


class InvalidInputError(MistakeError):
    """A prompt, a file or a row cannot be worked on as it is."""


class RetryableError(AssistantError):
    """The same request may succeed later."""


class ModelUnavailableError(RetryableError):
    """The model's server does not answer, or answers 429 or 5xx."""


class StoreUnavailableError(RetryableError):
    """The database or its API does not answer."""


class EventsForgottenError(RetryableError):
    """Events that were answered before they were on the disk are gone: send them again."""


class PermanentError(AssistantError):
    """Repeating the request changes nothing."""


class ModelRefusedError(PermanentError):
    """The model's server refuses: bad key, unknown model, unsupported request."""


class ModelReplyError(PermanentError):
    """The model's reply is empty or cannot be read as what was asked for.

    Attributes:
        usage: what the useless replies have used all the same; None where that is not known.
    """

    def __init__(self, message: str, *, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage


class SandboxUnavailableError(PermanentError):
    """This host cannot isolate generated code; the message names each way to mend it."""


class ToolError(AssistantError):
    """A tool refused its arguments, or failed; the message is for the code that called it."""


class ToolRefusedError(ToolError):
    """A tool does not exist or refuses its arguments; nothing ran."""


class SandboxDiedError(AssistantError):
    """A sandbox session ended while it was in use."""


class LeaseLostError(AssistantError):
    """The task belongs to another attempt now; results of this one must be dropped."""


class BudgetExceededError(AssistantError):
    """A limit of turns, tokens or seconds is spent.

    Attributes:
        limit: the name of the field of `Budget` that is spent.
    """

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit
