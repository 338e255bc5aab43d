"""Everything, started as `make run` starts it, on free ports and in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.embedded_fixtures import temporary_state_folder

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0


@dataclass
class Stack:
    """A running assistant.

    Attributes:
        home: its state folder.
        settings: the environment it was started with, beyond the ordinary.
    """

    home: Path
    ports: dict[str, int]
    process: subprocess.Popen[str]
    settings: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.ports['PYTHONIC_PAGE_PORT']}"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ports['PYTHONIC_API_PORT']}"

    @property
    def supabase(self) -> str:
        return f"http://127.0.0.1:{self.ports['PYTHONIC_SUPABASE_PORT']}"

    @property
    def keys(self) -> dict[str, Any]:
        return json.loads((self.home / "supabase" / "keys.json").read_text())

    @property
    def database(self) -> Path:
        """PostgreSQL's folder; root's may lie outside of the state folder."""
        return Path((self.home / "supabase" / "postgres.place").read_text().strip())

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.home, self.ports, self.settings)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, *words: str) -> list[psutil.Process]:
        """Descendants whose command line holds all the words."""
        found: list[psutil.Process] = []
        for process in self.descendants():
            try:
                line = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            if all(word in line for word in words):
                found.append(process)
        return found

    def rest(self, method: str, path: str, *, key: str | None = None, **more: Any) -> Any:
        """Call the REST API with the secret key, or another one."""
        key = key or self.keys["secret_key"]
        answer = httpx.request(
            method,
            f"{self.supabase}/rest/v1/{path}",
            headers={"apikey": key, "authorization": f"Bearer {key}", "prefer": "return=representation"},
            timeout=20,
            **more,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def task(self, task_id: int) -> dict[str, Any]:
        (row,) = self.rest("GET", f"tasks?id=eq.{task_id}")
        return row

    def events(self, task_id: int) -> list[dict[str, Any]]:
        return self.rest("GET", f"task_events?task_id=eq.{task_id}&order=attempt,seq")

    def insert_task(self, **columns: Any) -> int:
        """Insert a row as a person would by hand in the dashboard."""
        (row,) = self.rest("POST", "tasks", json=columns)
        return row["id"]

    def start_asking(
        self, prompt: str, *files: Path, out: Path, arguments: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "pythonic_assistant.cli",
            "ask",
            prompt,
            "--json",
            "--out",
            str(out),
            *arguments,
        ]
        for file in files:
            command += ["--file", str(file)]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ask(
        self, prompt: str, *files: Path, out: Path, seconds: float = 60, arguments: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Ask at the command line and return what `--json` printed."""
        process = self.start_asking(prompt, *files, out=out, arguments=arguments)
        try:
            printed, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, errors = process.communicate()
            raise AssertionError(f"no answer within {seconds:g} s: {errors}") from None
        assert printed, errors
        return json.loads(printed)

    def stop(self, number: int = signal.SIGINT, seconds: float = 30) -> int:
        """Stop as Ctrl-C does; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=seconds)


def until(look: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """Look again and again until something is there."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)


def free_ports() -> dict[str, int]:
    names = ("PYTHONIC_PAGE_PORT", "PYTHONIC_API_PORT", "PYTHONIC_SUPABASE_PORT")
    sockets = [socket.socket() for _ in names]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return {name: item.getsockname()[1] for name, item in zip(names, sockets, strict=True)}
    finally:
        for item in sockets:
            item.close()


def environment(home: Path, ports: Mapping[str, int], settings: Mapping[str, str]) -> dict[str, str]:
    ordinary = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return (
        ordinary
        | {name: str(port) for name, port in ports.items()}
        | {"PYTHONIC_HOME": str(home)}
        | dict(settings)
    )


def start(
    home: Path, settings: Mapping[str, str] | None = None, ports: dict[str, int] | None = None
) -> Stack:
    """Start and wait for the line that says it is ready."""
    ports = ports or free_ports()
    settings = settings or {}
    log = (home.parent / f"{home.name}.out").open("w+")
    process = subprocess.Popen(
        [sys.executable, "main.py"],
        cwd=ROOT,
        env=environment(home, ports, settings),
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    path = Path(log.name)
    log.close()
    stack = Stack(home=home, ports=ports, process=process, settings=settings)

    def ready() -> bool:
        assert process.poll() is None, path.read_text()
        return "Ready in" in path.read_text()

    try:
        until(ready, seconds=START_SECONDS, what="the start")
    except AssertionError as error:
        stack.stop()
        logs = "\n".join(
            f"--- {file.name}\n{file.read_text()[-2000:]}" for file in sorted((home / "logs").glob("*.log"))
        )
        raise AssertionError(f"{error}\n{path.read_text()}\n{logs}") from error
    return stack


@contextmanager
def running_stack(settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """A running assistant, gone without a trace afterwards."""
    home = temporary_state_folder()
    stack: Stack | None = None
    try:
        stack = start(home, settings)
        yield stack
    finally:
        if stack is not None:
            stack.stop()
            shutil.rmtree(stack.database, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
        (home.parent / f"{home.name}.out").unlink(missing_ok=True)
