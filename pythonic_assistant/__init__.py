"""A Python assistant that people own: it plans, writes code, runs it isolated, and proves its answer."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pythonic_assistant.assistant import PythonicAssistant

__all__ = ["PythonicAssistant", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import the assistant when it is asked for: the page and the commands import this package without it."""
    if name == "PythonicAssistant":
        from pythonic_assistant.assistant import PythonicAssistant

        return PythonicAssistant
    raise AttributeError(name)
