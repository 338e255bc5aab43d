"""What tests of the page stand on: an embedded Supabase, the page process, and a worker played by hand.

The played worker calls the same database functions as the real one, with the secret key, so that no test of
the page needs a model or a sandbox.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from realtime import AsyncRealtimeClient

from pythonic_assistant.adapters.secrets import vault
from tests.embedded_fixtures import RunningSupabase

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_page(
    backend: RunningSupabase, home: Path, port: int, *, local: bool = True
) -> subprocess.Popen[bytes]:
    """Start the page with what the supervisor would give it, and wait until it answers."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "SUPABASE_URL": backend.url,
        "SUPABASE_PUBLISHABLE_KEY": backend.publishable_key,
        "PYTHONIC_HOME": str(home),
        "PYTHONIC_PAGE_PORT": str(port),
    }
    if local:
        environment |= {"PYTHONIC_EMAIL": backend.local_user[0], "PYTHONIC_PASSWORD": backend.local_user[1]}
    home.mkdir(parents=True, exist_ok=True)
    with (home / "page.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "live"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/_stcore/health", trust_env=False).status_code == 200:
                return process
        except httpx.TransportError:
            time.sleep(0.05)
        assert process.poll() is None, (home / "page.log").read_text()
    raise AssertionError("the page did not answer within 20 s")


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process that was started here."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


@dataclass(slots=True, kw_only=True)
class Claim:
    """A task that the played worker holds."""

    task_id: int
    attempt: int
    user_id: str
    prompt: str
    inputs: Sequence[Mapping[str, Any]]
    hosts: Sequence[str] = ()
    seq: int = 0


@dataclass(slots=True, kw_only=True)
class PlayedWorker:
    """Does by hand what a worker does: claim, store events, finish, be present."""

    backend: RunningSupabase
    worker: str = field(default_factory=lambda: str(uuid.uuid4()))
    http: httpx.AsyncClient = field(init=False)
    realtime: AsyncRealtimeClient | None = None

    def __post_init__(self) -> None:
        key = self.backend.secret_key
        self.http = httpx.AsyncClient(
            base_url=self.backend.url,
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
            timeout=10,
            trust_env=False,
        )

    async def rpc(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call a database function as the service role."""
        answer = await self.http.post(f"/rest/v1/rpc/{name}", json=dict(arguments))
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    async def claim(self, seconds: float = 10) -> Claim:
        """Wait for a queued task and claim it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = await self.rpc(
                "claim_tasks", {"worker": self.worker, "queue": "default", "most": 1, "lease_seconds": 600}
            )
            if found["tasks"]:
                task = found["tasks"][0]
                return Claim(
                    task_id=task["id"],
                    attempt=task["attempt"],
                    user_id=task["user_id"],
                    prompt=task["prompt"],
                    inputs=task["inputs"],
                    hosts=task["hosts"],
                )
            await asyncio.sleep(0.05)
        raise AssertionError("no task was queued")

    async def claim_whole(self, task_id: int, seconds: float = 10) -> Mapping[str, Any]:
        """Claim until this task comes, and give all that a worker gets of it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = await self.rpc(
                "claim_tasks", {"worker": self.worker, "queue": "default", "most": 1, "lease_seconds": 600}
            )
            for task in found["tasks"]:
                if task["id"] == task_id:
                    return task
            await asyncio.sleep(0.05)
        raise AssertionError(f"task {task_id} was not queued")

    async def publish_key(self) -> str:
        """Let people seal secrets to a new key of this worker's; returns the private one."""
        private = vault.generate_key()
        public = vault.public_key_of(private)
        answer = await self.http.post(
            "/rest/v1/secret_keys", json={"key_id": vault.key_id_of(public), "public_key": public}
        )
        assert answer.status_code < 300, answer.text
        return private

    async def tell(self, claim: Claim, *events: tuple[str, Mapping[str, Any]]) -> float:
        """Store events of (kind, data); returns when the database had answered."""
        batch: list[dict[str, Any]] = []
        for kind, data in events:
            claim.seq += 1
            batch.append(
                {
                    "seq": claim.seq,
                    "kind": kind,
                    "step_id": data.get("step_id"),
                    "at": datetime.now(UTC).isoformat(),
                    "data": dict(data),
                }
            )
        stored = await self.rpc(
            "append_events",
            {"worker": self.worker, "task_id": claim.task_id, "attempt": claim.attempt, "events": batch},
        )
        assert stored is True
        return time.time()

    async def save(self, claim: Claim, name: str, content: bytes, media_type: str) -> None:
        """Leave an artifact."""
        path = f"{claim.user_id}/tasks/{claim.task_id}/{name}"
        answer = await self.http.post(
            f"/storage/v1/object/artifacts/{path}", content=content, headers={"content-type": media_type}
        )
        assert answer.status_code < 300, answer.text
        await self.tell(
            claim,
            (
                "artifact_saved",
                {
                    "name": name,
                    "media_type": media_type,
                    "bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "storage_path": path,
                },
            ),
        )

    async def keep(self, claim: Claim, name: str, content: bytes) -> None:
        """Keep a variable, as JSON, for later tasks of the thread."""
        found = await self.http.get(
            "/rest/v1/tasks", params={"id": f"eq.{claim.task_id}", "select": "thread_id"}
        )
        path = f"{claim.user_id}/variables/{found.json()[0]['thread_id']}/{name}.json"
        answer = await self.http.post(
            f"/storage/v1/object/artifacts/{path}",
            content=content,
            headers={"content-type": "application/json"},
        )
        assert answer.status_code < 300, answer.text
        kept = {
            "name": name,
            "type": "dict",
            "shape": "12",
            "bytes": len(content),
            "media_type": "application/json",
            "load": "json.load(open({path!r}))",
            "storage_path": path,
        }
        await self.tell(claim, ("variable_saved", kept))

    async def begin(self, claim: Claim, name: str, **fields: Any) -> Mapping[str, Any]:
        """Come to an action outside; returns what the database says, with its `key`."""
        made = {
            "step_id": "s1",
            "execution": 1,
            "kind": "tool",
            "risk": "irreversible",
            "request": {},
            "call": str(uuid.uuid4()),
            **fields,
        }
        digest = hashlib.sha256(json.dumps([name, made["request"]]).encode()).hexdigest()
        effect = {"effect_key": f"s1/{digest}/1", "digest": digest, "name": name, **made}
        said = await self.rpc(
            "begin_effect",
            {"worker": self.worker, "task_id": claim.task_id, "attempt": claim.attempt, "effect": effect},
        )
        return {"key": effect["effect_key"], **said}

    async def end(self, claim: Claim, key: str, state: str, result: Any = None) -> None:
        """Say what came of an action."""
        ended = await self.rpc(
            "end_effect",
            {
                "worker": self.worker,
                "task_id": claim.task_id,
                "attempt": claim.attempt,
                "effect_key": key,
                "state": state,
                "result": result,
            },
        )
        assert ended is True

    async def ask_outcome(self, claim: Claim, key: str, preview: Mapping[str, Any]) -> int:
        """Ask whether an action of unknown outcome happened; returns the approval's id."""
        said = await self.rpc(
            "ask_outcome",
            {
                "worker": self.worker,
                "task_id": claim.task_id,
                "attempt": claim.attempt,
                "effect_key": key,
                "preview": dict(preview),
            },
        )
        return int(said["approval"])

    async def wait(self, claim: Claim, reason: str = "a decision") -> None:
        """Put the task aside until it is decided."""
        waits = await self.rpc(
            "wait_task",
            {
                "worker": self.worker,
                "task_id": claim.task_id,
                "attempt": claim.attempt,
                "reason": reason,
            },
        )
        assert waits is True

    async def finish(
        self, claim: Claim, answer: str, verdict: str, evidence: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """End the task with an answer."""
        ended = await self.rpc(
            "finish_task",
            {
                "worker": self.worker,
                "task_id": claim.task_id,
                "attempt": claim.attempt,
                "answer": answer,
                "verdict": verdict,
                "evidence": list(evidence),
                "usage": {"turns": 4, "input_tokens": 5210, "output_tokens": 812, "cost": 0.0123},
            },
        )
        assert ended is True

    async def fail(self, claim: Claim, error: str, evidence: Sequence[Mapping[str, Any]] = ()) -> None:
        """End the task for good with an error."""
        ended = await self.rpc(
            "fail_task",
            {
                "worker": self.worker,
                "task_id": claim.task_id,
                "attempt": claim.attempt,
                "error": error,
                "retryable": False,
                "evidence": list(evidence),
                "usage": {"turns": 3, "input_tokens": 3000, "output_tokens": 400},
            },
        )
        assert ended is True

    async def confirm_cancel(self, claim: Claim) -> None:
        """Say that the code has been stopped."""
        confirmed = await self.rpc(
            "confirm_cancel", {"worker": self.worker, "task_id": claim.task_id, "attempt": claim.attempt}
        )
        assert confirmed is True

    async def appear(self, model: str | None = None, *, sandbox: str = "namespaces", note: str = "") -> None:
        """Be present as a worker."""
        key = self.backend.secret_key
        client = AsyncRealtimeClient(f"{self.backend.url}/realtime/v1", key, auto_reconnect=False)
        await client.connect()
        channel = client.channel(
            "workers",
            {
                "config": {
                    "broadcast": None,
                    "presence": {"key": self.worker, "enabled": True},
                    "private": True,
                }
            },
        )
        await channel.subscribe()
        await channel.track(
            {
                "worker": self.worker,
                "host": "test-host",
                "version": "0.0",
                "slots": 4,
                "labels": [],
                "model": model,
                "sandbox": sandbox,
                "sandbox_note": note,
                "started_at": datetime.now(UTC).isoformat(),
            }
        )
        self.realtime = client

    async def close(self) -> None:
        """Leave."""
        if self.realtime is not None:
            await self.realtime.close()
        await self.http.aclose()


def plan(*titles: str) -> tuple[str, dict[str, Any]]:
    """An event with a plan of steps s1, s2, …"""
    steps = [
        {
            "id": f"s{n}",
            "title": title,
            "goal": f"{title} as the task asks.",
            "proof": "The numbers agree.",
            "depends_on": [f"s{n - 1}"] if n > 1 else [],
        }
        for n, title in enumerate(titles, start=1)
    ]
    return "plan_made", {"plan": {"steps": steps}}
