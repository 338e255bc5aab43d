"""Why a request is not answered by its host."""

from __future__ import annotations


class RefusedError(Exception):
    """The proxy does not let a request through.

    Attributes:
        sentence: what is wrong and what is allowed, for the code that asked; one line of plain text.
        host, port: as far as they are known by then.
        status: of the answer.
    """

    def __init__(
        self,
        sentence: str,
        *,
        host: str = "",
        port: int = 0,
        status: int = 403,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.host = host
        self.port = port
        self.status = status


class FailedError(Exception):
    """The request was allowed, but its host did not answer as HTTP wants it.

    Attributes:
        sentence: what happened, for the code that asked.
        status: of the answer: 502 or 504.
    """

    def __init__(self, sentence: str, *, status: int = 502) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status


class GoneError(Exception):
    """The code that asked has closed its side, or says nothing more; there is nobody to answer."""
