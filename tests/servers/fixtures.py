"""The servers as pytest fixtures: import what a test module uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.servers.openai_server import OpenAIServer

StartServer = Callable[..., OpenAIServer]


@pytest.fixture
def start_openai_server() -> Iterator[StartServer]:
    """Start servers with the arguments of `OpenAIServer`; all are closed after the test."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(OpenAIServer(*args, **kwargs))
