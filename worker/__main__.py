"""`python -m worker`: the composition root of the worker."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from hypercorn.asyncio import serve as serve_http  # pyright: ignore[reportUnknownVariableType]  its WSGI half is untyped
from hypercorn.config import Config
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from pythonic_assistant import __version__
from pythonic_assistant.adapters.egress.broker import EgressBroker
from pythonic_assistant.adapters.egress.policy import Route, read_routes
from pythonic_assistant.adapters.mail import Mailer, read_allowed, read_mail_server
from pythonic_assistant.adapters.realtime_line import Subscription
from pythonic_assistant.adapters.sandbox import SandboxOptions, open_sandbox
from pythonic_assistant.adapters.schedules.planning import plan_of
from pythonic_assistant.adapters.secrets.keyring import WorkerKey, worker_key
from pythonic_assistant.adapters.store.supabase_deliveries import SupabaseDeliveries
from pythonic_assistant.adapters.store.supabase_files import SupabaseFiles
from pythonic_assistant.adapters.store.supabase_prices import SupabasePrices
from pythonic_assistant.adapters.store.supabase_records import SupabaseRecords
from pythonic_assistant.adapters.store.supabase_removals import SupabaseRemovals
from pythonic_assistant.adapters.store.supabase_schedules import SupabaseSchedules
from pythonic_assistant.adapters.store.supabase_secrets import SupabaseSecrets
from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    MistakeError,
    SandboxUnavailableError,
)
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.ports import Endings, Facts
from pythonic_assistant.settings import Settings, load_settings
from pythonic_assistant.wire import ModelConfig
from worker.access import Means
from worker.app import UNAVAILABLE, Readiness, create_app
from worker.attempt import Attempt
from worker.config import MOST_BUDGET, WorkerConfig
from worker.deliveries import LEASE_SECONDS, Deliverer
from worker.engine import Engine
from worker.expiring import keep_expiring
from worker.identity import identity
from worker.logs import log_to_stderr
from worker.metrics import Metrics
from worker.presence import only_be_seen, presence_of
from worker.pricing import Pricing
from worker.publishing import publish
from worker.reaching import SAID, Reached, Way, keep_hearing, reach
from worker.runner import SpareRunner
from worker.schedules import ScheduleClock
from worker.sweeping import keep_sweeping
from worker.webhook import WebhookSender

log = logging.getLogger("worker")

FAILURE_EXIT, MISTAKE_EXIT = 1, 2
"""The second tells the supervisor that starting again would change nothing."""


def config_of(settings: Settings) -> WorkerConfig:
    """What the worker needs of the settings.

    Raises:
        ConfigurationError: address or key of Supabase is missing.
    """
    if settings.supabase_url is None or settings.supabase_secret_key is None:
        raise ConfigurationError(
            "A worker by itself needs SUPABASE_URL and SUPABASE_SECRET_KEY; `make run` sets both by itself."
        )
    model = None
    if settings.model_configured and settings.model is not None:
        model = ModelConfig(
            model=settings.model,
            api_key=settings.openai_api_key.reveal() if settings.openai_api_key else "",
            base_url=settings.openai_base_url,
            code_format=settings.code_format,
        )
    return WorkerConfig(
        supabase_url=settings.supabase_url,
        supabase_key=settings.supabase_secret_key.reveal(),
        home=settings.home / "worker",
        model=model,
        slots=settings.slots,
        labels=settings.labels,
        database_url=settings.supabase_db_url.reveal() if settings.supabase_db_url else None,
        sandbox=settings.sandbox,
        limits=settings.limits,
        budget=replace(Budget(), **settings.spending),
        most_budget=replace(MOST_BUDGET, **settings.spending),
        packages=settings.home / "packages",
        private_hosts=settings.private_hosts,
        secrets_key=settings.secrets_key.reveal() if settings.secrets_key else None,
        mail=read_mail_server(settings.smtp_url.reveal(), settings.mail_from) if settings.smtp_url else None,
        mail_to=read_allowed(settings.mail_to),
    )


class Worker:
    """One worker process: its parts, and what can be seen of them.

    Args:
        key: opens people's secrets.
        routes: of the operator, to hosts with private addresses.
    """

    def __init__(
        self, config: WorkerConfig, identifier: UUID, key: WorkerKey, routes: Sequence[Route] = ()
    ) -> None:
        self.config = config
        self.id = identifier
        self.key = key
        self.routes = routes
        self.started_at = datetime.now(UTC)
        self.engine: Engine | None = None
        self.metrics = Metrics()
        self.way: Way | None = None
        self.problem = ""
        self.sandbox_tier = "starting"
        self.sandbox_problem = "The sandbox is starting."
        self.sandbox_note = ""

    def look(self) -> Readiness:
        """How the worker is, now."""
        return Readiness(
            engine=self.engine,
            way=self.way,
            problem=self.problem,
            sandbox=self.sandbox_tier,
            sandbox_problem=self.sandbox_problem,
            sandbox_note=self.sandbox_note,
            model=self.config.model.model if self.config.model else None,
            slots=self.config.slots,
        )

    def _deliverer(self, client: AsyncClient, secrets: SupabaseSecrets) -> Deliverer:
        store = SupabaseDeliveries(
            client,
            worker=self.id,
            can_mail=self.config.mail is not None,
            allowed=self.config.mail_to,
            lease_seconds=LEASE_SECONDS,
        )
        return Deliverer(
            store,
            secrets=secrets,
            key=self.key,
            webhooks=WebhookSender(routes=self.routes),
            mailer=Mailer(self.config.mail) if self.config.mail else None,
        )

    def presence(self) -> dict[str, object]:
        """What everyone who is signed in may see of this worker."""
        return {
            "worker": str(self.id),
            "host": platform.node(),
            "version": __version__,
            "slots": self.config.slots,
            "labels": list(self.config.labels),
            "model": self.config.model.model if self.config.model else None,
            "queue": self.way,
            "sandbox": self.sandbox_tier,
            "sandbox_note": self.sandbox_note or self.sandbox_problem,
            "started_at": self.started_at.isoformat(),
        }

    def facts(self, way: Way) -> Facts:
        """The same for the table of workers, and how many tasks run."""
        present = self.presence()
        names = ("host", "version", "slots", "labels", "model", "sandbox", "started_at")
        return {name: present[name] for name in names} | {
            # Who has no sign of life on PostgreSQL must not be missed there.
            "adapter": "direct" if way == "direct" else "api",
            "running": len(self.engine.running) if self.engine else 0,
        }

    def _seen(self) -> Subscription:
        return presence_of(self.id, self.presence)

    async def work(self, stopped: asyncio.Event) -> None:
        """Claim and run tasks until `stopped`, then give back what is unfinished."""
        name = str(self.id)[:8]
        folder = self.config.home / "runs" / name
        await asyncio.to_thread(_empty_folder, folder)  # a former process may have been killed in its work
        socket_path = self.config.home / "sandbox" / f"{name}.sock"
        await asyncio.to_thread(socket_path.parent.mkdir, mode=0o700, exist_ok=True)
        runners = SpareRunner(self.config.home / "runner.log", folder)
        try:
            runners.prepare()  # imports while the zygote does
            options = SandboxOptions(limits=self.config.limits, packages=self.config.packages)
            async with (
                open_sandbox(socket_path, wanted=self.config.sandbox, options=options) as sandbox,
                EgressBroker(socket_path.with_suffix(".out"), routes=self.routes) as broker,
            ):
                self.sandbox_tier, self.sandbox_problem = sandbox.tier, ""
                self.sandbox_note = sandbox.note
                if sandbox.note:
                    extra = {"action": "sandbox_chosen", "tier": sandbox.tier, "note": sandbox.note}
                    log.warning("sandbox chosen", extra=extra)
                async with asyncio.TaskGroup() as group:
                    # Without a zygote this process is of no use: it ends, and the supervisor starts another.
                    watching = group.create_task(sandbox.wait_lost(), name="zygote-watch")
                    await self._serve(runners, broker, socket_path, folder, stopped)
                    watching.cancel()
        except SandboxUnavailableError as error:
            # Nothing is claimed without isolation: others may have it. Presence and /readyz say why.
            self.sandbox_tier, self.sandbox_problem = UNAVAILABLE, str(error)
            log.error("no sandbox", extra={"action": "sandbox_unavailable", "reason": str(error)})  # noqa: TRY400
            async with asyncio.TaskGroup() as group:
                seen = group.create_task(only_be_seen(self.config, self._seen()), name="presence")
                await stopped.wait()
                seen.cancel()
        finally:
            await runners.close()
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _serve(
        self,
        runners: SpareRunner,
        broker: EgressBroker,
        sandbox_socket: Path,
        folder: Path,
        stopped: asyncio.Event,
    ) -> None:
        client = await acreate_client(
            self.config.supabase_url,
            self.config.supabase_key,
            AsyncClientOptions(auto_refresh_token=False, persist_session=False),
        )
        reached = await self._reached(client, stopped)
        if reached is None:
            return
        self.way = reached.way
        queue = reached.queue
        log.info("queue reached", extra={"action": "reached", "way": reached.way, "note": SAID[reached.way]})
        files = SupabaseFiles(client)
        secrets = SupabaseSecrets(client)
        means = Means(store=secrets, key=self.key, broker=broker)
        records = SupabaseRecords(client)
        pricing = Pricing(SupabasePrices(client))

        def attempt_of(task: ClaimedTask, endings: Endings) -> Attempt:
            return Attempt(
                task,
                config=self.config,
                queue=endings,
                journal=queue,
                files=files,
                runners=runners,
                sandbox_socket=sandbox_socket,
                folder=folder,
                means=means,
                records=records,
                effects=queue,
                pricing=pricing,
                metrics=self.metrics,
            )

        engine = Engine(
            config=self.config,
            queue=queue,
            store=queue,
            attempt_of=attempt_of,
            facts=lambda: self.facts(reached.way),
            metrics=self.metrics,
        )
        self.engine = engine
        deliverer = self._deliverer(client, secrets)
        clock = ScheduleClock(SupabaseSchedules(client), plan_of)
        hints = {"delivery": deliverer.wake, "schedules": clock.wake}
        try:
            async with asyncio.TaskGroup() as group:
                hearing = keep_hearing(reached, self.config, engine, self._seen(), hints)
                delivering = group.create_task(deliverer.serve(), name="deliveries")
                beside = [
                    group.create_task(hearing, name="hints"),
                    group.create_task(_drain_when(stopped, engine), name="drain"),
                    group.create_task(publish(secrets, self.key), name="publish-key"),
                    group.create_task(keep_expiring(queue), name="expire-approvals"),
                    group.create_task(keep_sweeping(SupabaseRemovals(client)), name="sweep"),
                    group.create_task(clock.keep(), name="schedules"),
                ]
                await engine.serve()
                deliverer.stop()
                await delivering
                for task in beside:
                    task.cancel()
        finally:
            await queue.close()

    def _tell(self, problem: str) -> None:
        self.problem = problem

    async def _reached(self, client: AsyncClient, stopped: asyncio.Event) -> Reached | None:
        """The queue; None when the worker is stopped before its database answers."""
        async with asyncio.TaskGroup() as group:
            reaching = group.create_task(
                reach(self.config, client, self.id, self.facts, self._tell), name="reach"
            )
            stopping = group.create_task(stopped.wait(), name="stop")
            await asyncio.wait({reaching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            reaching.cancel()  # changes nothing when it is done
            stopping.cancel()
        return None if reaching.cancelled() else reaching.result()


def _empty_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)


async def _drain_when(stopped: asyncio.Event, engine: Engine) -> None:
    await stopped.wait()
    log.info("draining", extra={"action": "drain", "running": len(engine.running)})
    engine.drain()


async def main() -> int:
    """Run one worker until SIGTERM or SIGINT."""
    os.umask(0o077)
    log_to_stderr()
    settings = load_settings(os.environ, None, role="worker")
    config = config_of(settings)
    config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = worker_key(config.home / "secrets.key", config.secrets_key)
    routes = read_routes(config.private_hosts)
    with identity(config.home) as identifier:
        return await serve(Worker(config, identifier, key, routes), settings.api_port)


async def serve(worker: Worker, port: int) -> int:
    """Work and answer HTTP until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    running_loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running_loop.add_signal_handler(number, stopped.set)

    http = Config()
    http.bind = [f"127.0.0.1:{port}"]
    http.accesslog = None
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve_http(create_app(worker.look, worker.metrics), http, shutdown_trigger=ended.wait),  # pyright: ignore[reportArgumentType]
            name="http",
        )
        await worker.work(stopped)
        ended.set()
    return 0


def first_of(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first error in nested groups."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except* AssistantError as errors:
        error = first_of(errors)
        sys.stderr.write(f"{error}\n")
        sys.exit(MISTAKE_EXIT if isinstance(error, MistakeError) else FAILURE_EXIT)
