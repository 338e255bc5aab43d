"""A worker that cannot isolate code takes no task, and says so to whoever is signed in."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from live.rows import worker_of
from live.wording import UNAVAILABLE
from pythonic_assistant.adapters.realtime_line import RealtimeLine, Subscription
from tests.embedded_fixtures import RunningSupabase

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]


async def test_a_worker_without_a_sandbox_is_seen_with_the_reason_until_it_ends(
    embedded_supabase: RunningSupabase, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    changes: asyncio.Queue[list[Mapping[str, Any]]] = asyncio.Queue()

    def heard(present: Mapping[str, Any]) -> None:
        metas = [meta for metas in present.values() for meta in metas]
        changes.put_nowait([meta for meta in metas if meta.get("labels") == ["without-bwrap"]])

    line = RealtimeLine(
        url=embedded_supabase.url,
        key=embedded_supabase.secret_key,
        subscriptions=(Subscription(topic="workers", on_presence=heard, presence_key="a person"),),
        on_up=lambda: None,
        on_down=lambda: None,
    )
    watching = asyncio.create_task(line.keep())
    process = subprocess.Popen(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env={
            "PATH": str(tmp_path),  # there is no bwrap
            "HOME": str(tmp_path),
            "PYTHONIC_HOME": str(tmp_path / "home"),
            "PYTHONIC_SANDBOX": "bwrap",
            "PYTHONIC_LABELS": "without-bwrap",
            "PYTHONIC_API_PORT": str(port),
            "SUPABASE_URL": embedded_supabase.url,
            "SUPABASE_SECRET_KEY": embedded_supabase.secret_key,
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while not (found := await changes.get()):
                assert process.poll() is None
        worker = worker_of(found[0])
        assert worker is not None
        assert worker.sandbox == UNAVAILABLE
        assert worker.labels == ("without-bwrap",)
        assert "bubblewrap" in worker.sandbox_note
        assert "Do ONE of these" in worker.sandbox_note
        async with httpx.AsyncClient(trust_env=False) as client:
            ready = await client.get(f"http://127.0.0.1:{port}/readyz")
            started = await client.get(f"http://127.0.0.1:{port}/startedz")
        assert ready.status_code == 503
        assert ready.json()["problems"] == [worker.sandbox_note]
        assert started.status_code == 200, "whoever starts it has nothing to wait for"
        assert started.text == f"The worker takes no tasks: {worker.sandbox_note}"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
        async with asyncio.timeout(20):
            while await changes.get():
                pass
    finally:
        watching.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
