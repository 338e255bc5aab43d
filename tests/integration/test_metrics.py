"""Numbers for Prometheus, scraped from a worker process that has done a task."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.embedded_fixtures import RunningSupabase
from tests.integration.callers import Someone

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]


async def scraped(client: httpx.AsyncClient) -> dict[str, float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def test_a_worker_counts_what_it_does(
    embedded_supabase: RunningSupabase, tmp_path: Path, ann: Someone
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "PYTHONIC_HOME": str(tmp_path / "home"),
            "PYTHONIC_LABELS": "counted",
            "PYTHONIC_SLOTS": "3",
            "PYTHONIC_API_PORT": str(port),
            "SUPABASE_URL": embedded_supabase.url,
            "SUPABASE_SECRET_KEY": embedded_supabase.secret_key,
            "SUPABASE_DB_URL": embedded_supabase.database_url,
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client,
            asyncio.timeout(90),
        ):
            while True:
                assert process.poll() is None
                try:
                    if (await client.get("/readyz")).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
            row = {"prompt": "test", "kind": "probe", "model": "scripted-demo", "labels": ["counted"]}
            made = ann.post("tasks", row, "return=representation")
            assert made.status_code == 201, made.text
            task = made.json()[0]["id"]
            while (state := ann.get(f"tasks?id=eq.{task}&select=state").json()[0]["state"]) != "succeeded":
                assert state in ("queued", "running"), state
                await asyncio.sleep(0.1)
            while (found := await scraped(client))["pythonic_tasks_running{}"]:
                await asyncio.sleep(0.1)
            strange = await client.get("/metrics", headers={"Host": "evil.example.org"})
            assert strange.status_code == 403
        assert found["pythonic_tasks_claimed_total{}"] == 1
        assert found["pythonic_attempts_ended_total{end=succeeded,verdict=proven}"] == 1
        assert found["pythonic_run_seconds_count{}"] == 1
        assert found["pythonic_model_seconds_count{purpose=probe}"] == 1
        assert found["pythonic_claim_seconds_count{}"] >= 2
        assert found["pythonic_model_cost_dollars_total{}"] == 0
        assert found["pythonic_slots{}"] == 3
        assert found["pythonic_database_up{}"] == found["pythonic_ready{}"] == 1
        assert any(name.startswith("pythonic_worker_info{queue=direct,") for name in found)
        assert any(name.startswith("pythonic_runs_total{kind=probe,") for name in found)
        assert not any(ann.id in name or "scripted" in name for name in found)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
