"""The processes of the drill: a Supabase and some workers, each started again when it was killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from supervisor.child import FIRST_PAUSE_SECONDS
from tests.drill.points import Who

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
_RUNNER = re.compile(r'"action": "run_started", "task_id": (\d+), "attempt": (\d+), "pid": (\d+)')


def ordinary() -> dict[str, str]:
    """What every process is given."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


def kill(process: psutil.Process) -> None:
    """SIGKILL, to one process that may have ended."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


@dataclass
class Supabase:
    """`python -m embedded_supabase`, kept running; its death is the gateway's, with all below it."""

    state: Path
    port: int = 0
    said: Mapping[str, Any] = field(default_factory=dict[str, Any])
    _process: asyncio.subprocess.Process | None = None
    _keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start, and wait until it is ready."""
        await self._spawn()
        self.port = int(self.said["url"].rsplit(":", 1)[1])
        self._keeping = asyncio.create_task(self._keep())

    @property
    def keys(self) -> Mapping[str, Any]:
        """Its keys."""
        return json.loads(Path(self.said["keys_file"]).read_text())

    async def _spawn(self) -> None:
        with (self.state.parent / f"{self.state.name}.err").open("a") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "embedded_supabase"),
                *("--state", str(self.state), "--port", str(self.port)),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = await self._process.stdout.readline()
        if line:
            self.said = json.loads(line)

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            await self._process.wait()
            await asyncio.sleep(FIRST_PAUSE_SECONDS)
            await self._spawn()

    def strike(self, who: Who) -> None:
        """Kill a part of it."""
        assert self._process is not None
        try:
            gateway = psutil.Process(self._process.pid)
            below = gateway.children()
        except psutil.NoSuchProcess:
            return
        if who == "gateway":
            kill(gateway)
            return
        word = "postgres" if who == "database" else "lite.mjs"
        for process in below:
            try:
                hit = any(word in part for part in process.cmdline())
                more = process.children(recursive=True) if hit else []
            except psutil.NoSuchProcess:
                continue
            if hit:
                for one in [process, *more]:
                    kill(one)

    async def answers(self) -> None:
        """Wait until the API answers from the database.

        Raises:
            TimeoutError: it does not.
        """
        key = self.keys["secret_key"]
        headers = {"apikey": key, "authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client, asyncio.timeout(START_SECONDS):
            while True:
                try:
                    got = await client.get(f"{self.said['url']}/rest/v1/profiles?limit=1", headers=headers)
                    if got.is_success:
                        return
                except httpx.HTTPError:
                    await asyncio.sleep(0)
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Stop it as a person would."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        shutil.rmtree(self.state, ignore_errors=True)
        (self.state.parent / f"{self.state.name}.err").unlink(missing_ok=True)


@dataclass
class Machine:
    """A worker that is started again when it was killed, as the supervisor does after its first pause.

    Attributes:
        label: of the tasks that it alone takes.
        home: its state folder.
        environment: of the worker.
    """

    label: str
    home: Path
    environment: Mapping[str, str]
    _process: asyncio.subprocess.Process | None = None
    _keeping: asyncio.Task[None] | None = None
    _new_identity: bool = False

    async def start(self) -> None:
        """Start it."""
        await self._spawn()
        self._keeping = asyncio.create_task(self._keep())

    @property
    def log(self) -> Path:
        """What the worker says."""
        return self.home / "worker.log"

    async def _spawn(self) -> None:
        if self._new_identity:
            (self.home / "worker" / "identity").unlink(missing_ok=True)
            self._new_identity = False
        with self.log.open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.drill.worker"),
                cwd=ROOT,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            await self._process.wait()
            await asyncio.sleep(FIRST_PAUSE_SECONDS)
            await self._spawn()

    async def strike(self, *, for_good: bool) -> None:
        """Kill the worker and wait until it is dead; who follows is somebody else if it is for good."""
        while (process := self._process) is None or process.returncode is not None:
            await asyncio.sleep(0.02)  # nobody is killed twice: the next one is about to start
        self._new_identity = self._new_identity or for_good
        process.kill()
        await process.wait()

    def runner(self, task: int, attempt: int) -> psutil.Process | None:
        """The runner of an attempt, while it lives."""
        for found in reversed(_RUNNER.findall(self.log.read_text(errors="replace"))):
            if (int(found[0]), int(found[1])) == (task, attempt):
                try:
                    process = psutil.Process(int(found[2]))
                    if process.status() != psutil.STATUS_ZOMBIE:
                        return process
                except psutil.NoSuchProcess:
                    return None
        return None

    async def stop(self) -> None:
        """Stop the worker as the supervisor does."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def now() -> float:
    """Seconds of the clock that never goes back."""
    return time.monotonic()
