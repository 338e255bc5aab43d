"""One attempt at a task: files in, a runner at work, events and artifacts out, and one of the ways to end."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from pythonic_assistant.adapters.store.naming import storage_name, unique_names
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.errors import AssistantError, InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.event import ArtifactSaved, Event, Noted, RunFailed, RunSucceeded
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.task import DEMO_MODEL, ClaimedTask, RunRequest
from pythonic_assistant.ports import Fence, FileStore, RunJournal, TaskQueue
from pythonic_assistant.wire import ModelConfig, RunOrder, TimedEvent
from worker.config import WorkerConfig
from worker.relay import Relay
from worker.runner import Runner, SpareRunner

log = logging.getLogger(__name__)

Stop = Literal["cancel", "lost", "drain"]
Result = TypeVar("Result")

LONGEST_NAME = 500
"""Of an artifact, in characters; the table takes no longer one."""
OVERTIME_SECONDS = 60.0
"""How much longer than its budget a runner may take before it is taken for hung."""


class Attempt:
    """Works on one claimed task; `stop` ends it from outside.

    Args:
        sandbox_socket: where the worker's zygote listens.
        folder: of this worker's runs; each attempt has its own in it while it lasts.
    """

    def __init__(
        self,
        task: ClaimedTask,
        *,
        config: WorkerConfig,
        queue: TaskQueue,
        journal: RunJournal,
        files: FileStore,
        runners: SpareRunner,
        sandbox_socket: Path,
        folder: Path,
    ) -> None:
        self.task = task
        self.fence = Fence(task.id, task.attempt)
        self._config = config
        self._queue = queue
        self._journal = journal
        self._files = files
        self._runners = runners
        self._sandbox_socket = sandbox_socket
        self._folder = folder / f"{task.id}-{task.attempt}"
        self._relay = Relay(journal, self.fence)
        self._artifacts: list[tuple[TimedEvent, ArtifactSaved]] = []
        self._ending: TimedEvent | None = None
        self._stop: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()

    def stop(self, reason: Stop) -> None:
        """End the attempt soon; the first reason counts."""
        if not self._stop.done():
            self._stop.set_result(reason)

    async def work(self) -> None:
        """Run the task to one of its ends: finished, failed, cancelled, given back, or lost."""
        relaying = asyncio.create_task(self._relay.run(), name=f"relay-{self.task.id}")
        working = asyncio.create_task(self._run(), name=f"run-{self.task.id}")
        losing = asyncio.create_task(self._relay.lost.wait(), name=f"lost-{self.task.id}")
        try:
            await asyncio.wait({working, self._stop, losing}, return_when=asyncio.FIRST_COMPLETED)
            if relaying.done():
                relaying.result()  # raises what broke the relay
            if working.done() and not self._stop.done():
                await self._end(working.result())
            else:
                reason: Stop = self._stop.result() if self._stop.done() else "lost"
                await _cancelled(working)
                await self._end_early(reason)
        finally:
            await _cancelled(working)
            await _cancelled(losing)
            await _cancelled(relaying)
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _run(self) -> RunSucceeded | RunFailed:
        """Let a runner work; returns its last event, or one that says why there is none."""
        try:
            inputs = await self._fetch_inputs()
            runner = await self._runners.take()
        except StoreUnavailableError as error:
            return RunFailed(error=str(error), retryable=True, usage=Usage())
        except AssistantError as error:
            return RunFailed(error=str(error), retryable=False, usage=Usage())
        self._note("runner at work", "run_started", pid=runner.pid)
        try:
            async with asyncio.timeout(self._config.budget.seconds + OVERTIME_SECONDS):
                ending = await self._follow(runner, inputs)
        except TimeoutError:
            return RunFailed(
                error=f"The run did not end in its {self._config.budget.seconds:g} seconds and was stopped.",
                retryable=False,
                usage=Usage(),
            )
        finally:
            await runner.kill()
        # Outside of the run's time: Storage may be away for longer than the run was allowed to take.
        for timed, artifact in self._artifacts:
            await self._store_artifact(timed, artifact)
        if self._ending is not None:
            self._relay.put(self._ending)
        return ending

    async def _follow(self, runner: Runner, inputs: tuple[InputFile, ...]) -> RunSucceeded | RunFailed:
        ending: RunSucceeded | RunFailed | None = None
        try:
            await runner.give(self._order(inputs))
            async for timed in runner.events():
                if isinstance(timed.event, ArtifactSaved):
                    self._artifacts.append((timed, timed.event))
                    continue
                if isinstance(timed.event, RunSucceeded | RunFailed):
                    self._ending, ending = timed, timed.event
                    break
                self._relay.put(timed)
        except (BrokenPipeError, ConnectionResetError):
            self._note("runner closed its pipe", "runner_pipe")
        except (InvalidInputError, ValueError) as error:
            return RunFailed(error=f"The runner's output was broken: {error}", retryable=True, usage=Usage())
        if ending is not None:
            return ending
        status = await runner.wait()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return RunFailed(error=f"The runner {how} before the task was done.", retryable=True, usage=Usage())

    def _order(self, inputs: tuple[InputFile, ...]) -> RunOrder:
        task = self.task
        return RunOrder(
            request=RunRequest(
                prompt=task.prompt,
                kind=task.kind,
                instructions=task.instructions,
                files=inputs,
                history=task.history,
                budget=self._config.budget,
                resume=task.resume,
                seed=task.id,
                cache_key=task.thread_id or str(task.id),
            ),
            model=self._model(),
            sandbox_socket=self._sandbox_socket,
            outbox=self._folder / "outbox",
        )

    def _model(self) -> ModelConfig | None:
        configured = self._config.model
        wanted = self.task.model
        if wanted is None:
            return configured
        if wanted == DEMO_MODEL:
            return ModelConfig(model=DEMO_MODEL)
        if configured is None:
            return None  # the demo answers, and says how to configure a model
        return ModelConfig(
            model=wanted,
            api_key=configured.api_key,
            base_url=configured.base_url,
            code_format=configured.code_format,
        )

    async def _fetch_inputs(self) -> tuple[InputFile, ...]:
        folder = self._folder / "inputs"
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread((self._folder / "outbox").mkdir, mode=0o700, exist_ok=True)
        fetched: list[InputFile] = []
        for stored, name in zip(
            self.task.inputs, unique_names([file.name for file in self.task.inputs]), strict=True
        ):
            if not stored.storage_path.startswith(f"{self.task.user_id}/"):
                raise InvalidInputError(f"The file {stored.name} does not belong to the task's owner.")
            try:
                size = await self._files.download(
                    stored.storage_path, folder / name, most_bytes=self._config.input_bytes
                )
            except InvalidInputError:
                if not stored.earlier:
                    raise
                text = f"{stored.name}, which came with an earlier task of the thread, is gone."
                self._tell(Noted(text=text, level="warning"))
                continue
            fetched.append(InputFile(name=name, path=folder / name, media_type=stored.media_type, bytes=size))
        return tuple(fetched)

    async def _store_artifact(self, timed: TimedEvent, event: ArtifactSaved) -> None:
        if len(event.name) > LONGEST_NAME:
            text = f"{event.name[:100]}… was not stored: its path is longer than {LONGEST_NAME} characters."
            self._tell(Noted(text=text, level="warning"))
            return
        storage_path = f"{self.task.user_id}/tasks/{self.task.id}/{storage_name(event.name)}"
        path = Path(event.path)
        if not path.resolve().is_relative_to((self._folder / "outbox").resolve()):
            raise InvalidInputError(f"The artifact {event.name} is outside of the run's folder.")
        try:
            await self._persist(lambda: self._files.upload(path, storage_path, event.media_type))
        except InvalidInputError as error:
            self._tell(Noted(text=f"{event.name[:200]} could not be stored: {error}", level="warning"))
            return
        self._relay.put(timed, {"storage_path": storage_path, "path": None})

    async def _end(self, ending: RunSucceeded | RunFailed) -> None:
        await self._relay.drained()
        if self._relay.lost.is_set():
            self._note("lease lost, result dropped", "lease_lost")
            return
        if isinstance(ending, RunSucceeded):
            kept = await self._persist(
                lambda: self._journal.finish(
                    self.fence, answer=ending.answer, verdict=ending.verdict, usage=ending.usage
                )
            )
        else:
            kept = await self._persist(
                lambda: self._journal.fail(
                    self.fence,
                    error=ending.error,
                    retryable=ending.retryable,
                    evidence=ending.evidence,
                    usage=ending.usage,
                )
            )
        self._note("attempt ended" if kept else "lease lost, result dropped", ending.kind)

    async def _end_early(self, reason: Stop) -> None:
        self._note("attempt stopped", f"stop_{reason}")
        if reason == "lost":
            return
        if reason == "cancel":
            self._tell(Noted(text="Cancelled."))
            await self._relay.drained()
            if not await self._persist(lambda: self._queue.confirm_cancel(self.fence)):
                self._note("cancelled task was not held any more", "cancel_late")
            return
        # A stop of the worker; without a database the lease ends by itself, so waiting is bounded.
        try:
            async with asyncio.timeout(self._config.drain_seconds):
                await self._relay.drained()
                await self._persist(lambda: self._queue.release(self.fence))
        except TimeoutError:
            self._note("not given back: the database does not answer", "release_late")

    async def _persist(self, write: Callable[[], Awaitable[Result]]) -> Result:
        """Repeat a write until the database takes or refuses it; every write here may come twice."""
        wait = 0.2
        while True:
            try:
                return await write()
            except StoreUnavailableError as error:
                self._note("write waits for the database", "write_retry", reason=str(error))
                await asyncio.sleep(wait)
                wait = min(wait * 2, 5.0)

    def _tell(self, event: Event) -> None:
        self._relay.put(TimedEvent(at=datetime.now(UTC), event=event))

    def _note(self, text: str, action: str, **extra: object) -> None:
        log.info(
            text, extra={"action": action, "task_id": self.task.id, "attempt": self.task.attempt, **extra}
        )


async def _cancelled(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait for its end; what it raises besides is for whoever awaits its result."""
    if task.done():
        return
    task.cancel()
    await asyncio.wait({task})
