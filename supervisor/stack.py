"""The whole of one machine: the embedded Supabase if none is configured, the worker, the page."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pythonic_assistant import __version__
from pythonic_assistant.domain.errors import AssistantError
from pythonic_assistant.settings import Settings
from supervisor import access as reach
from supervisor import environments
from supervisor.child import Child, ChildSpec, Probe
from supervisor.environments import Access
from supervisor.guarding import Guarding
from supervisor.log_file import shorten
from supervisor.ports import HOST, require_free
from supervisor.readiness import until_answers, until_started
from supervisor.state import StateFolder
from supervisor.terminal import Terminal

# The first start makes a database and applies the migrations; a slow disk takes most of a minute.
DATABASE_START_SECONDS = 180.0
START_SECONDS = 90.0
PAGE_STOP_SECONDS = 5.0
# The worker stops its tasks at once and gives them back. It allows the database eight seconds to take them
# (`drain_seconds` of worker/config.py) and two of grace; the rest is for the sandbox and the runners to end.
WORKER_STOP_SECONDS = 12.0
DATABASE_STOP_SECONDS = 30.0
# How often the sizes of the logs are looked at. A child that writes 10 MB/s is 100 MB beyond the limit then.
LOG_SECONDS = 10.0
LOG_BYTES = 10 << 20
LOGS = ("logs/*.log", "supabase/logs/*.log", "worker/*.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Programmes:
    """What is started; tests put stand-ins here.

    Attributes:
        database: announces itself with one line of JSON; `--state` and `--port` are added.
        worker: answers `/startedz` on the API port.
        page: answers `/` on the page port.
        folder: the working folder of all.
    """

    database: Sequence[str] = (sys.executable, "-m", "embedded_supabase")
    worker: Sequence[str] = (sys.executable, "-m", "worker")
    page: Sequence[str] = (sys.executable, "-m", "live")
    folder: Path = Path(__file__).resolve().parent.parent


def _first(group: BaseExceptionGroup[AssistantError]) -> AssistantError:
    """The first error of a group: one sentence is what the person can act on."""
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")


class Stack:
    """Starts everything in the right order, keeps it running, ends it in the reverse order."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        terminal: Terminal,
        programmes: Programmes | None = None,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._terminal = terminal
        self._programmes = programmes if programmes is not None else Programmes()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._began = time.monotonic()
        self._children: list[Child] = []  # in the order of their start

    async def run(self) -> None:
        """Run until SIGINT, SIGTERM or SIGHUP; a second signal ends the waiting for children.

        Raises:
            ConfigurationError: a port is taken, or the state folder cannot be used.
            ChildFailedError: a child does not come up.
        """
        folder = StateFolder(self._settings.home, on_wait=self._terminal.line)
        try:
            await folder.hold()
            await asyncio.to_thread(require_free, self._ports())
            # Before this line a signal may end the process as it likes: nothing has been started.
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self._on_signal)
            guarding = Guarding(inherited=(folder.descriptor,))
            await guarding.start()
            try:
                await self._run_children(folder, guarding)
            except* AssistantError as group:
                raise _first(group) from None
            finally:
                await self._stop_children()
                await guarding.close()
        finally:
            folder.release()

    def _ports(self) -> dict[str, int]:
        ports = {
            "PYTHONIC_PAGE_PORT": self._settings.page_port,
            "PYTHONIC_API_PORT": self._settings.api_port,
        }
        if self._settings.embedded:
            ports["PYTHONIC_SUPABASE_PORT"] = self._settings.supabase_port
        return ports

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def _run_children(self, folder: StateFolder, guarding: Guarding) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(guarding.keep_running())]
            tasks.append(group.create_task(self._keep_logs_short(folder)))
            tasks.append(group.create_task(self._start(folder, guarding, group, tasks)))
            await self._stopping.wait()
            self._terminal.line("\nStopping; once more Ctrl-C kills.")
            for task in tasks:
                task.cancel()

    async def _start(
        self,
        folder: StateFolder,
        guarding: Guarding,
        group: asyncio.TaskGroup,
        tasks: list[asyncio.Task[None]],
    ) -> None:
        """Bring up every child and say so; each as soon as it can work."""
        settings = self._settings
        self._terminal.line(f"Pythonic Assistant {__version__}, state in {settings.home}")

        def launch(spec: ChildSpec) -> Child:
            child = Child(spec, guarding=guarding, report=self._terminal.happening)
            self._children.append(child)
            tasks.append(group.create_task(child.keep_running()))
            return child

        access = reach.of_settings(settings)
        database: Child | None = None
        page: Child | None = None
        count = 2
        if access is None:
            count = 3
            database = launch(self._database(folder))
            # From the second start on the keys are known, so the page can begin before the database answers.
            known = await asyncio.to_thread(
                reach.kept, settings.home / "supabase" / "keys.json", settings.supabase_port
            )
            page = launch(self._page(folder, known)) if known is not None else None
            await database.ready.wait()
            self._terminal.step(1, count, "database ready", database.ready_seconds)
            access = await asyncio.to_thread(reach.announced, database.announcement)
        worker = launch(self._worker(folder, access))
        page = page if page is not None else launch(self._page(folder, access))
        for number, child in enumerate((worker, page), count - 1):
            await child.ready.wait()
            self._terminal.step(number, count, f"{child.spec.name} ready", child.ready_seconds)
        self._greet(access, database, folder)

    async def _keep_logs_short(self, folder: StateFolder) -> None:
        """Bound what children and the database's own children write in months. Runs until cancelled."""
        told = False
        while True:
            for path in [path for place in LOGS for path in folder.path.glob(place)]:
                try:
                    await asyncio.to_thread(shorten, path, limit_bytes=LOG_BYTES)
                except OSError as error:
                    if not told:  # once: a full disk stays full, and is no reason to stop
                        self._terminal.happening(f"The log {path} cannot be shortened: {error}.")
                    told = True
            await asyncio.sleep(LOG_SECONDS)

    def _greet(self, access: Access, database: Child | None, folder: StateFolder) -> None:
        settings = self._settings
        rows = [
            ("Page", f"http://{HOST}:{settings.page_port}"),
            ("API", f"http://{HOST}:{settings.api_port}"),
            ("Supabase", access.url if database is None else f"{access.url} (embedded)"),
            ("Model", settings.model or "none configured: a scripted demo answers"),
            ("Logs", str(folder.logs)),
        ]
        self._terminal.block(rows)
        self._terminal.line(f"Ready in {time.monotonic() - self._began:.1f} s. Ctrl-C stops everything.")

    def _database(self, folder: StateFolder) -> ChildSpec:
        settings = self._settings
        options = ("--state", str(settings.home / "supabase"), "--port", str(settings.supabase_port))
        return self._spec(
            "database",
            (*self._programmes.database, *options),
            environments.base(self._environ, settings),
            folder,
            probe=None,
            start_seconds=DATABASE_START_SECONDS,
            stop_seconds=DATABASE_STOP_SECONDS,
        )

    def _worker(self, folder: StateFolder, access: Access) -> ChildSpec:
        return self._spec(
            "worker",
            self._programmes.worker,
            environments.of_worker(self._environ, self._settings, access),
            folder,
            probe=partial(until_started, self._settings.api_port, "/startedz", self._terminal.happening),
            start_seconds=START_SECONDS,
            stop_seconds=WORKER_STOP_SECONDS,
        )

    def _page(self, folder: StateFolder, access: Access) -> ChildSpec:
        return self._spec(
            "page",
            self._programmes.page,
            environments.of_page(self._environ, self._settings, access),
            folder,
            probe=partial(until_answers, self._settings.page_port, "/"),
            start_seconds=START_SECONDS,
            stop_seconds=PAGE_STOP_SECONDS,
        )

    def _spec(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: StateFolder,
        *,
        probe: Probe | None,
        start_seconds: float,
        stop_seconds: float,
    ) -> ChildSpec:
        return ChildSpec(
            name=name,
            command=command,
            environment=environment,
            folder=self._programmes.folder,
            log=folder.logs / f"{name}.log",
            probe=probe,
            start_seconds=start_seconds,
            stop_seconds=stop_seconds,
        )

    async def _stop_children(self) -> None:
        """End page and worker together, then the database that both need."""
        last = [child for child in self._children if child.spec.probe is None]
        first = [child for child in self._children if child.spec.probe is not None]
        for batch in (first, last):
            await asyncio.gather(*(child.stop(self._hurry) for child in batch))
