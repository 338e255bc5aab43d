"""`python -m live`: serve the page on loopback until stopped."""

from __future__ import annotations

import logging
import os
import sys

from live.runtime import ROOT
from pythonic_assistant.domain.errors import AssistantError
from pythonic_assistant.settings import load_settings


def main() -> int:
    """Read the settings and serve. Returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # realtime-py logs every failed attempt as an error; `live.realtime` says it once, in its own words.
    logging.getLogger("realtime").setLevel(logging.CRITICAL)
    try:
        settings = load_settings(os.environ, None, role="page")
        # Streamlit looks for .streamlit/config.toml in the current folder; the theme is part of the page.
        os.chdir(ROOT)
        from live.app import (
            make_app,  # after the change of folder, because Streamlit reads its config on import
        )

        app = make_app(settings)
    except AssistantError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    app.run(config={"server.port": settings.page_port, "server.address": "127.0.0.1"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
