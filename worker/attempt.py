"""One attempt at a task: files in, a runner at work, events and artifacts out, and one of the ways to end.

Long, because the ways to end share one state; what can be told apart from it is in modules of its own.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar, assert_never

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.ending import Cancelled, Ending, Failed, Finished, Released, Waiting
from pythonic_assistant.domain.errors import AssistantError, InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.event import (
    ArtifactSaved,
    Event,
    ItemAdded,
    Noted,
    RunFailed,
    RunSucceeded,
    RunWaiting,
    VariableSaved,
)
from pythonic_assistant.domain.price import Price
from pythonic_assistant.domain.task import DEMO_MODEL, ClaimedTask, RunRequest
from pythonic_assistant.ports import EffectStore, Endings, Fence, FileStore, RunJournal
from pythonic_assistant.tools.registry import CALL_SECONDS
from pythonic_assistant.wire import ModelConfig, RunOrder, TimedEvent, ToolAsked
from worker.access import Means, TaskAccess
from worker.bounds import bounds_of
from worker.config import WorkerConfig
from worker.fetching import Fetching
from worker.keeping import Keeping
from worker.ledger import Ledger
from worker.metrics import Metrics
from worker.pricing import Pricing
from worker.redacting import without_secrets
from worker.relay import Relay, with_refusals
from worker.runner import Runner, SpareRunner
from worker.tools import Answering, Records, TaskTools

log = logging.getLogger(__name__)

Stop = Literal["cancel", "lost", "drain"]
Result = TypeVar("Result")
RunEnded = RunSucceeded | RunFailed | RunWaiting

OVERTIME_SECONDS = 60.0
"""How much longer than its budget a runner may take before it is taken for hung."""
SETTLE_SECONDS = 5.0
"""For actions that were begun outside, when the attempt is stopped: better an outcome than a question."""


class Attempt:
    """Works on one claimed task; `stop` ends it from outside.

    Args:
        queue: where the attempt ends.
        sandbox_socket: where the worker's zygote listens.
        folder: of this worker's runs; each attempt has its own in it while it lasts.
        means: for access to hosts and secrets.
        records: what tools look up.
        effects: the rows of the ledger.
        pricing: tells what models cost; without it nothing has a price.
        metrics: counts what runs do.
    """

    def __init__(
        self,
        task: ClaimedTask,
        *,
        config: WorkerConfig,
        queue: Endings,
        journal: RunJournal,
        files: FileStore,
        runners: SpareRunner,
        sandbox_socket: Path,
        folder: Path,
        means: Means,
        records: Records,
        effects: EffectStore,
        pricing: Pricing | None = None,
        metrics: Metrics | None = None,
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
        self._ledger = Ledger(effects, self.fence, stored=self._relay.stored, items=len(task.recorded))
        self._pricing = pricing
        self._metrics = metrics or Metrics()
        self._access = TaskAccess(means, self._put, self._ledger)
        self._records = records
        self._left: list[tuple[TimedEvent, ArtifactSaved | VariableSaved]] = []
        self._ending: TimedEvent | None = None
        self._spent = task.spent
        self._stop: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()

    def stop(self, reason: Stop) -> None:
        """End the attempt soon; the first reason counts."""
        if not self._stop.done():
            self._stop.set_result(reason)

    async def work(self) -> None:
        """Run the task to one of its ends: finished, failed, waiting, cancelled, given back, or lost."""
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
                if reason != "lost":
                    await self._ledger.settled(SETTLE_SECONDS)
                await _cancelled(working)
                await self._end_early(reason)
        finally:
            await _cancelled(working)
            await _cancelled(losing)
            await _cancelled(relaying)
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _run(self) -> RunEnded:
        """Let a runner work; returns its last event, or one that says why there is none."""
        try:
            return await self._run_with_access()
        except StoreUnavailableError as error:
            return RunFailed(error=str(error), retryable=True, usage=self._spent)
        except AssistantError as error:
            return RunFailed(error=str(error), retryable=False, usage=self._spent)
        finally:
            await self._access.close()

    async def _run_with_access(self) -> RunEnded:
        tools = TaskTools(self.task, self._records, self._ledger)
        request = await self._request(tools)
        runner = await self._runners.take()
        self._note("runner at work", "run_started", pid=runner.pid)
        try:
            async with asyncio.timeout(request.budget.seconds + OVERTIME_SECONDS):
                ending = await self._follow_or_wait(runner, self._order(request), tools)
        except TimeoutError:
            return RunFailed(
                error=f"The run did not end in its {request.budget.seconds:g} seconds and was stopped.",
                retryable=False,
                usage=self._spent,
            )
        finally:
            await runner.kill()
        await self._access.close()  # its last requests are told before the end is
        # Outside of the run's time: Storage may be away for longer than the run was allowed to take.
        await self._keep()
        if self._ending is not None:
            self._relay.put(self._ending)
        return ending

    async def _follow_or_wait(self, runner: Runner, order: RunOrder, tools: TaskTools) -> RunEnded:
        """Let the runner work until it ends, or until a person has to decide something."""
        following = asyncio.create_task(self._follow(runner, order, tools), name=f"follow-{self.task.id}")
        try:
            await asyncio.wait({following, self._ledger.waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not self._ledger.waiting.done():
                return following.result()
            # What is being done outside at this moment shall not become an unknown outcome.
            await self._ledger.settled(CALL_SECONDS)
        finally:
            await _cancelled(following)
        event = RunWaiting(reason=self._ledger.waiting.result(), usage=self._spent)
        self._ending = TimedEvent(at=datetime.now(UTC), event=event)
        return event

    async def _follow(self, runner: Runner, order: RunOrder, tools: TaskTools) -> RunEnded:
        ending: RunEnded | None = None
        answering = Answering(tools, runner.answer)
        try:
            await runner.give(order)
            async for line in runner.lines():
                if isinstance(line, ToolAsked):
                    answering.ask(line)
                elif isinstance(line.event, ArtifactSaved | VariableSaved):
                    self._left.append((line, line.event))
                elif isinstance(line.event, RunSucceeded | RunFailed | RunWaiting):
                    self._ending, ending = line, line.event
                    break
                else:
                    self._put(line)
                if isinstance(line, TimedEvent) and isinstance(line.event, ItemAdded):
                    self._spent += line.event.usage or Usage()
                    await self._ledger.heard(line.event.position)
        except (BrokenPipeError, ConnectionResetError):
            self._note("runner closed its pipe", "runner_pipe")
        except (InvalidInputError, ValueError) as error:
            return RunFailed(
                error=f"The runner's output was broken: {error}", retryable=True, usage=self._spent
            )
        finally:
            await answering.close()
        if ending is not None:
            return ending
        status = await runner.wait()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return RunFailed(
            error=f"The runner {how} before the task was done.", retryable=True, usage=self._spent
        )

    async def _request(self, tools: TaskTools) -> RunRequest:
        """Gather what the run needs: limits, the way out, files."""
        task = self.task
        limits, budget, notes = bounds_of(task.limits, self._config)
        for text in notes:
            self._tell(Noted(text=text))
        price = await self._price()
        await self._access.open(
            task.user_id, [*task.hosts, *(host for tool in tools.specs for host in tool.hosts)]
        )
        self._relay.redactor = self._ledger.redactor = self._access.redactor
        await asyncio.to_thread(self._outbox.mkdir, mode=0o700, parents=True, exist_ok=True)
        files, saved = await Fetching(
            task,
            folder=self._folder / "inputs",
            files=self._files,
            warn=self._tell,
            most_bytes=self._config.input_bytes,
        ).fetch()
        return RunRequest(
            prompt=task.prompt,
            kind=task.kind,
            instructions=task.instructions,
            files=files,
            history=task.history,
            budget=budget,
            resume=task.resume,
            recorded=task.recorded,
            spent=task.spent,
            seed=task.id,
            limits=limits,
            environment=self._access.environment,
            raw=self._access.raw,
            hosts=self._access.hosts,
            tools=tools.specs,
            saved=saved,
            cache_key=task.thread_id or str(task.id),
            price=price,
        )

    async def _price(self) -> Price | None:
        model = self._model()
        if self._pricing is None or model is None or model.model == DEMO_MODEL:
            return None
        price = await self._pricing.of(model.model)
        if price is None and "cost" in self.task.limits:
            self._tell(
                Noted(
                    text=f"Nobody has written down what {model.model} costs, so the limit of "
                    f"${self.task.limits['cost']:,.2f} cannot be kept; the limit of tokens is. The operator "
                    "can add the price to the table of prices.",
                    level="warning",
                )
            )
        return price

    def _order(self, request: RunRequest) -> RunOrder:
        return RunOrder(
            request=request,
            model=self._model(),
            sandbox_socket=self._sandbox_socket,
            outbox=self._outbox,
            egress=self._access.grant,
            packages=self._config.packages,
        )

    @property
    def _outbox(self) -> Path:
        return self._folder / "outbox"

    async def _keep(self) -> None:
        """Store what the run left."""
        keeping = Keeping(
            self.task,
            outbox=self._outbox,
            files=self._files,
            relay=self._relay,
            persist=self._persist,
            secrets=self._access.secrets,
        )
        for timed, event in self._left:
            if isinstance(event, ArtifactSaved):
                await keeping.artifact(timed, event)
            else:
                await keeping.variable(timed, event)

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

    async def _end(self, ended: RunEnded) -> None:
        await self._relay.drained()
        if self._relay.lost.is_set():
            self._note("lease lost, result dropped", "lease_lost")
            return
        ended = with_refusals(without_secrets(ended, self._access.redactor), self._relay.refused)
        try:
            kept = await self._persist(lambda: self._queue.end(self._ending_of(ended)))
        except InvalidInputError as error:
            if not isinstance(ended, RunSucceeded):
                raise
            refused = RunFailed(
                error=f"The answer could not be stored: {error}", retryable=False, usage=ended.usage
            )
            kept = await self._persist(lambda: self._queue.end(self._ending_of(refused)))
        self._note("attempt ended" if kept else "lease lost, result dropped", ended.kind)

    def _ending_of(self, ended: RunEnded) -> Ending:
        task, attempt = self.task.id, self.task.attempt
        match ended:
            case RunSucceeded():
                return Finished(
                    task_id=task,
                    attempt=attempt,
                    answer=ended.answer,
                    verdict=ended.verdict,
                    usage=ended.usage,
                )
            case RunFailed():
                return Failed(
                    task_id=task,
                    attempt=attempt,
                    error=ended.error,
                    retryable=ended.retryable,
                    evidence=ended.evidence,
                    usage=ended.usage,
                )
            case RunWaiting():
                return Waiting(task_id=task, attempt=attempt, reason=ended.reason, usage=ended.usage)
            case _:
                assert_never(ended)

    async def _end_early(self, reason: Stop) -> None:
        self._note("attempt stopped", f"stop_{reason}")
        if reason == "lost":
            return
        if reason == "cancel":
            self._tell(Noted(text="Cancelled."))
            await self._relay.drained()
            cancelled = Cancelled(task_id=self.task.id, attempt=self.task.attempt)
            if not await self._persist(lambda: self._queue.end(cancelled)):
                self._note("cancelled task was not held any more", "cancel_late")
            return
        # A stop of the worker; without a database the lease ends by itself, so waiting is bounded.
        try:
            async with asyncio.timeout(self._config.drain_seconds):
                await self._relay.drained()
                released = Released(task_id=self.task.id, attempt=self.task.attempt)
                await self._persist(lambda: self._queue.end(released))
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

    def _put(self, timed: TimedEvent) -> None:
        self._metrics.heard(timed.event, self.task.kind)
        self._relay.put(timed)

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
