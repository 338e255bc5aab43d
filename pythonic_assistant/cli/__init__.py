"""The `pythonic` command."""

from pythonic_assistant.cli.command import main

__all__ = ["main"]
