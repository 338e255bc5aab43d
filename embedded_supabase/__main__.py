"""`python -m embedded_supabase --state FOLDER --port PORT`: prints one JSON line when it is ready.

The line holds `url`, `keys_file` (read the keys there; they are never printed), `database_url`, `pid` and
`ready_seconds`. Ends on SIGTERM and SIGINT with code 0. Code 2: something has to be changed first, code 1:
something does not work; one sentence on stderr says what.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from embedded_supabase.server import MIGRATIONS, EmbeddedSupabase
from pythonic_assistant.domain.errors import AssistantError, MistakeError


async def run(arguments: argparse.Namespace) -> None:
    """Start, say so, and run until a signal comes or a part fails for good."""
    began = time.monotonic()
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, told.set)
    supabase = EmbeddedSupabase(
        state=arguments.state,
        port=arguments.port,
        migrations=arguments.migrations,
        origins=frozenset(arguments.origin),
        allow_public_channels=arguments.allow_public_channels,
    )
    stopped = asyncio.create_task(told.wait())
    starting = asyncio.create_task(supabase.__aenter__())
    await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return
    try:
        await starting
        _announce(arguments.state, supabase, time.monotonic() - began)
        failed = asyncio.create_task(supabase.wait())
        done, _ = await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
        failed.cancel()
        if failed in done:
            failed.result()
    finally:
        stopped.cancel()
        await supabase.__aexit__(None, None, None)


def _announce(state: Path, supabase: EmbeddedSupabase, seconds: float) -> None:
    line = {
        "url": supabase.url,
        "keys_file": str(state.absolute() / "keys.json"),
        "database_url": supabase.database_url,
        "pid": os.getpid(),
        "children": dict(supabase.pids),
        "ready_seconds": round(seconds, 3),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m embedded_supabase", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder of data, keys and logs")
    parser.add_argument("--port", type=int, default=54321, help="on 127.0.0.1; 0 is any free one")
    parser.add_argument("--migrations", type=Path, default=MIGRATIONS, help="folder of SQL files")
    parser.add_argument("--origin", action="append", default=[], help="a page that may call from a browser")
    parser.add_argument(
        "--allow-public-channels", action="store_true", help="Realtime channels without rules"
    )
    arguments = parser.parse_args()
    os.umask(0o077)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        asyncio.run(run(arguments))
    except AssistantError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, MistakeError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
