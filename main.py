"""One command for everything: the embedded Supabase if none is configured, the worker and the page."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pythonic_assistant.domain.errors import AssistantError, MistakeError
from pythonic_assistant.settings import load_settings
from supervisor.stack import Stack
from supervisor.terminal import Terminal


def main() -> int:
    """Run until stopped. Returns 0 after Ctrl-C, 2 for a mistake in the configuration, 1 for a failure."""
    os.umask(0o077)  # state, logs and runs are this user's alone; children inherit it
    try:
        settings = load_settings(os.environ, Path(__file__).resolve().parent / ".env")
        asyncio.run(Stack(settings, os.environ, terminal=Terminal()).run())
    except KeyboardInterrupt:  # before the signal handlers were set
        return 0
    except AssistantError as error:
        Terminal(sys.stderr).line(str(error))
        return 2 if isinstance(error, MistakeError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
