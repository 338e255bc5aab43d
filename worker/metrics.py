"""Numbers about this worker for Prometheus: never about a person, and with labels of few values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from pythonic_assistant.domain.ending import Cancelled, Ending, Failed, Finished, Released, Waiting
from pythonic_assistant.domain.event import EgressRequested, Event, ModelReplied, RunStarted

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_CALLS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15)
_REPLIES: Final = (0.25, 0.5, 1, 2, 5, 10, 20, 40, 80, 160)
_RUNS: Final = (1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 3600)

Kind = Literal["task", "probe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is read when the numbers are asked for.

    Attributes:
        cut_off_seconds: how long no heartbeat was answered, once leases have ended; else 0.
    """

    version: str
    sandbox: str
    way: str
    slots: int
    running: int
    ready: bool
    database: bool
    hints: bool
    draining: bool
    cut_off_seconds: float


class Metrics:
    """Counts what one worker does, from its start."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._ended = Counter(
            "pythonic_attempts_ended",
            "Attempts that ended, by how; `lost` are those whose lease another worker has.",
            ("end", "verdict"),
            registry=registry,
        )
        self._runs = Counter(
            "pythonic_runs",
            "Runs begun, by the sandbox's tier; each of kind task opens one sandbox session.",
            ("kind", "sandbox"),
            registry=registry,
        )
        self._claims = Histogram(
            "pythonic_claim_seconds",
            "How long the database takes to end attempts and hand out tasks.",
            buckets=_CALLS,
            registry=registry,
        )
        self._claimed = Counter("pythonic_tasks_claimed", "Tasks claimed.", registry=registry)
        self._failed_claims = Counter(
            "pythonic_claim_failures", "Claims that were not answered, or refused.", registry=registry
        )
        self._run_seconds = Histogram(
            "pythonic_run_seconds", "How long attempts take.", buckets=_RUNS, registry=registry
        )
        self._model_seconds = Histogram(
            "pythonic_model_seconds",
            "How long a model takes to reply, by what it is asked for.",
            ("purpose",),
            buckets=_REPLIES,
            registry=registry,
        )
        self._tokens = Counter(
            "pythonic_model_tokens",
            "Tokens: input (from the cache or not), cached (of the input), output.",
            ("kind",),
            registry=registry,
        )
        self._cost = Counter(
            "pythonic_model_cost_dollars", "US dollars for replies of known price.", registry=registry
        )
        self._unpriced = Counter(
            "pythonic_model_unpriced_replies", "Replies whose price is unknown.", registry=registry
        )
        self._egress = Counter(
            "pythonic_egress_requests", "What code asked for outside.", ("outcome",), registry=registry
        )
        self._running = Gauge("pythonic_tasks_running", "Attempts at work now.", registry=registry)
        self._slots = Gauge("pythonic_slots", "Attempts that may be at work at once.", registry=registry)
        self._ready = Gauge("pythonic_ready", "1 while tasks can be claimed and run.", registry=registry)
        self._database = Gauge(
            "pythonic_database_up", "1 while the last call of the database was answered.", registry=registry
        )
        self._hints = Gauge(
            "pythonic_hints_up", "1 while hints arrive; else the queue is polled.", registry=registry
        )
        self._draining = Gauge("pythonic_draining", "1 while the worker is stopping.", registry=registry)
        self._cut_off = Gauge(
            "pythonic_cut_off_seconds", "How long no heartbeat was answered; else 0.", registry=registry
        )
        self._info = Gauge(
            "pythonic_worker_info",
            "Always 1; the labels tell what this worker is.",
            ("version", "sandbox", "queue"),
            registry=registry,
        )

    def heard(self, event: Event, kind: Kind = "task") -> None:
        """An event of a run.

        Args:
            kind: of the task.
        """
        match event:
            case RunStarted():
                self._runs.labels(kind, event.sandbox).inc()
            case ModelReplied():
                self._model_seconds.labels(event.purpose).observe(event.seconds)
                self._tokens.labels("input").inc(event.usage.input_tokens)
                self._tokens.labels("cached").inc(event.usage.cached_tokens)
                self._tokens.labels("output").inc(event.usage.output_tokens)
                if event.usage.cost is None:
                    self._unpriced.inc()
                else:
                    self._cost.inc(event.usage.cost)
            case EgressRequested():
                self._egress.labels(event.outcome).inc()
            case _:
                return

    def claimed(self, seconds: float, tasks: int) -> None:
        """A claim was answered."""
        self._claims.observe(seconds)
        self._claimed.inc(tasks)

    def claim_failed(self) -> None:
        """A claim was not answered, or refused."""
        self._failed_claims.inc()

    def ran(self, seconds: float) -> None:
        """An attempt is over."""
        self._run_seconds.observe(seconds)

    def ended(self, ending: Ending, kept: bool) -> None:
        """An ending was written, or its lease was lost."""
        self._ended.labels(*(_how(ending) if kept else ("lost", ""))).inc()

    def text(self, standing: Standing) -> bytes:
        """All numbers in Prometheus' text format."""
        self._running.set(standing.running)
        self._slots.set(standing.slots)
        self._ready.set(standing.ready)
        self._database.set(standing.database)
        self._hints.set(standing.hints)
        self._draining.set(standing.draining)
        self._cut_off.set(standing.cut_off_seconds)
        self._info.clear()
        self._info.labels(standing.version, standing.sandbox, standing.way).set(1)
        return generate_latest(self._registry)


def _how(ending: Ending) -> tuple[str, str]:
    match ending:
        case Finished():
            return "succeeded", ending.verdict.kind
        case Failed():
            if ending.retryable:
                return "failed_for_now", ""
            return "failed", "refuted" if ending.evidence else ""
        case Released():
            return "released", ""
        case Cancelled():
            return "cancelled", ""
        case Waiting():
            return "waiting", ""
