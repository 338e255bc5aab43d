"""`pythonic studio`: a link that opens the embedded database's table editor once."""

from __future__ import annotations

import sys

from embedded_supabase import studio_link
from pythonic_assistant.domain.errors import ConfigurationError
from pythonic_assistant.settings import Settings


async def studio(settings: Settings) -> int:
    """Print the link."""
    if not settings.embedded:
        raise ConfigurationError(
            f"The database is at {settings.supabase_url}: open its dashboard. `pythonic studio` is for the "
            "embedded one."
        )
    sys.stdout.write(await studio_link(settings.home / "supabase") + "\n")
    sys.stderr.write("The link works once. Who has it may change every row.\n")
    return 0
