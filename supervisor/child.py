"""One child process: started, waited for until ready, started again when it stops, ended on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pythonic_assistant.domain.errors import PermanentError
from supervisor.guarding import Guarding
from supervisor.log_file import last_line, open_log

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
# A child that ran this long was well: the pause before its next start begins small again.
STEADY_SECONDS = 30.0
# Starts that may fail before the first success. One may be bad luck (a race, a kill), three are a cause.
FIRST_START_ATTEMPTS = 3
# What a child exits with when a person has to change something first, so that trying again is no use.
CONFIGURATION_EXIT = 2
_KILLED_SECONDS = 5.0
_ANNOUNCEMENT_BYTES = 64 << 10
_POLL_SECONDS = 0.03

Probe = Callable[[], Awaitable[None]]


class ChildFailedError(PermanentError):
    """A child cannot be brought up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to start and how to tell that it works.

    Attributes:
        name: for the person: "database", "worker", "page".
        command: programme and arguments.
        environment: all of it; nothing is inherited.
        folder: the working folder.
        log: where stderr goes, and stdout unless the child announces.
        probe: returns once the child is ready; None for a child that announces.
        start_seconds: how long becoming ready may take.
        stop_seconds: how long ending may take before it is killed.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    probe: Probe | None
    start_seconds: float
    stop_seconds: float

    @property
    def announces(self) -> bool:
        """Whether readiness is one line of JSON on the child's standard output."""
        return self.probe is None


class Child:
    """A child that is kept running.

    Attributes:
        ready: set after the first time that the child was ready.
        ready_seconds: how long that took.
        announcement: what the child announced last.
    """

    def __init__(self, spec: ChildSpec, *, guarding: Guarding, report: Callable[[str], None]) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.ready_seconds = 0.0
        self.announcement: Mapping[str, Any] = {}
        self._guarding = guarding
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = 0
        self._output = -1

    @property
    def pid(self) -> int | None:
        """Of the running process, which is also the id of its process group."""
        return self._process.pid if self._process is not None else None

    async def keep_running(self) -> None:
        """Start the child, and again whenever it stops. Runs until cancelled; `stop` then ends the process.

        Raises:
            ChildFailedError: it does not come up the first time.
        """
        pause = FIRST_PAUSE_SECONDS
        attempts = 0
        while True:
            began = time.monotonic()
            attempts += 1
            failure = await self._run_once(began)
            if time.monotonic() - began >= STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            code = await self._bury()
            if not self.ready.is_set() and (attempts >= FIRST_START_ATTEMPTS or code == CONFIGURATION_EXIT):
                raise ChildFailedError(failure)
            self._report(f"{failure} Starting it again in {pause:g} s.")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def stop(self, hurry: asyncio.Event) -> None:
        """End the process and its group: ask, wait, kill. `hurry` cuts the waiting short."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            ended = asyncio.create_task(process.wait())
            hurried = asyncio.create_task(hurry.wait())
            try:
                await asyncio.wait(
                    (ended, hurried), timeout=self.spec.stop_seconds, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                hurried.cancel()
                ended.cancel()
                await asyncio.gather(ended, hurried, return_exceptions=True)
        await self._bury()

    async def _run_once(self, began: float) -> str:
        """Start the process and wait for its end; returns a sentence about it."""
        process = await self._spawn()
        late = False
        async with asyncio.TaskGroup() as group:
            becoming = group.create_task(self._become_ready(began))
            ending = group.create_task(process.wait())
            await asyncio.wait((becoming, ending), return_when=asyncio.FIRST_COMPLETED)
            if not ending.done() and not becoming.result():
                late = True
                _signal_group(process.pid, signal.SIGKILL)
            await asyncio.wait((ending,))
            becoming.cancel()
        name, log = self.spec.name, self.spec.log
        if late:
            return f"The {name} was not ready after {self.spec.start_seconds:g} s; its log is {log}."
        words = last_line(log, since=self._log_start) if process.returncode else ""
        said = f": {words}" if words else ""
        return f"The {name} stopped ({_how(process.returncode)}){said}; its log is {log}."

    async def _spawn(self) -> asyncio.subprocess.Process:
        spec = self.spec
        log = await asyncio.to_thread(open_log, spec.log)
        output = os.dup(log)
        if spec.announces:
            # A nameless file, not a pipe: it never clogs, and grandchildren that inherit it hold up nothing.
            os.close(output)
            with tempfile.TemporaryFile(prefix="pythonic-") as file:
                output = os.dup(file.fileno())
        try:
            self._log_start = os.fstat(log).st_size
            self._process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=dict(spec.environment),
                cwd=spec.folder,
                start_new_session=True,
            )
        except OSError as error:
            raise ChildFailedError(f"The {spec.name} cannot be started: {error}.") from error
        finally:
            os.close(log)
            self._forget_output()
            self._output = output
        self._guarding.add(self._process.pid)
        return self._process

    async def _become_ready(self, began: float) -> bool:
        """Wait until the child works; False when that takes too long."""
        try:
            async with asyncio.timeout(self.spec.start_seconds):
                await (self._read_announcement() if self.spec.probe is None else self.spec.probe())
        except TimeoutError:
            return False
        took = time.monotonic() - began
        if self.ready.is_set():
            self._report(f"The {self.spec.name} is back ({took:.1f} s).")
        else:
            self.ready_seconds = took
            self.ready.set()
        return True

    async def _read_announcement(self) -> None:
        """Wait for the first whole line on standard output that is a JSON object."""
        while True:
            whole, _, _ = os.pread(self._output, _ANNOUNCEMENT_BYTES, 0).rpartition(b"\n")
            for line in whole.splitlines():
                if (announced := _json_object(line)) is not None:
                    self.announcement = announced
                    return
            await asyncio.sleep(_POLL_SECONDS)

    def _forget_output(self) -> None:
        if self._output >= 0:
            os.close(self._output)
            self._output = -1

    async def _bury(self) -> int | None:
        """End what is left of the process group and forget it; returns the exit code."""
        process = self._process
        if process is None:
            return None
        _signal_group(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILLED_SECONDS):
                await process.wait()
        self._guarding.remove(process.pid)
        self._forget_output()
        self._process = None
        return process.returncode


def _signal_group(group: int, number: signal.Signals) -> None:
    # ProcessLookupError: all of them have ended. PermissionError: macOS says so of a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _json_object(line: bytes) -> dict[str, Any] | None:
    try:
        value: object = json.loads(line)
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _how(code: int | None) -> str:
    if code is None:
        return "unknown end"
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
