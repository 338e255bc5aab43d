"""The worker's HTTP API: is it alive, is it ready, and what does it do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from quart import Quart, Response, request

from pythonic_assistant import __version__
from worker.engine import Engine
from worker.metrics import CONTENT_TYPE, Metrics, Standing
from worker.reaching import SAID, Way

UNAVAILABLE = "unavailable"
"""In place of a tier, when no code can be isolated."""
OWN_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What has to be there before tasks can run; `sandbox_problem` is empty when code can be isolated.

    Attributes:
        way: how the queue is reached, once it is.
        problem: why it is not reached yet; empty when there is nothing to say.
        sandbox_note: why this tier and not another; empty when there is nothing to say.
        slots: how many tasks run at once.
    """

    engine: Engine | None
    way: Way | None
    problem: str
    sandbox: str
    sandbox_problem: str
    sandbox_note: str
    model: str | None
    slots: int

    @property
    def problems(self) -> list[str]:
        """Why tasks cannot be claimed and run; empty when they can."""
        found: list[str] = []
        if self.engine is None:
            if self.sandbox != UNAVAILABLE:
                found.append(self.problem or "The worker is starting.")
        else:
            if not self.engine.condition.database:
                found.append("Supabase does not answer.")
            if silent := self.engine.condition.cut_off_seconds:
                found.append(
                    f"No heartbeat has been answered for {silent:.0f} seconds: the leases have ended, and "
                    "other workers may take the tasks."
                )
            if self.engine.condition.draining:
                found.append("The worker is stopping.")
        if self.sandbox_problem:
            found.append(self.sandbox_problem)
        return found

    @property
    def standing(self) -> Standing:
        """The same in numbers."""
        engine = self.engine
        return Standing(
            version=__version__,
            sandbox=self.sandbox,
            way=self.way or "",
            slots=self.slots,
            running=len(engine.running) if engine else 0,
            ready=not self.problems,
            database=engine is not None and engine.condition.database,
            hints=engine is not None and engine.condition.hints,
            draining=engine is not None and engine.condition.draining,
            cut_off_seconds=engine.condition.cut_off_seconds if engine else 0.0,
        )


def create_app(look: Callable[[], Readiness], metrics: Metrics) -> Quart:
    """Make the app.

    Args:
        look: tells how the worker is, now.
        metrics: what it has counted.
    """
    app = Quart("worker")

    @app.before_request
    async def refuse_strangers() -> tuple[dict[str, str], int] | None:  # pyright: ignore[reportUnusedFunction]
        """A page elsewhere whose name was made to point here still sends its own Host, or its Origin."""
        host = request.host.rsplit(":", 1)[0].lower()
        if host not in OWN_NAMES or request.headers.get("Origin"):
            return {"error": "This address answers on this machine only, and to no web page."}, 403
        return None

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> tuple[dict[str, Any], int]:  # pyright: ignore[reportUnusedFunction]
        """200 when tasks can be claimed and run; else 503 and why."""
        state = look()
        problems = state.problems
        body: dict[str, Any] = {
            "ready": not problems,
            "problems": problems,
            "model": state.model,
            "queue": state.way,
            "queue_note": SAID[state.way] if state.way else "",
            "sandbox": state.sandbox,
            "sandbox_note": state.sandbox_note,
        }
        if state.engine is not None:
            body["condition"] = asdict(state.engine.condition)
            body["running"] = [
                {"task_id": fence.task_id, "attempt": fence.attempt} for fence in state.engine.running
            ]
        return body, 200 if not problems else 503

    @app.get("/startedz")
    async def startedz() -> tuple[str, int, dict[str, str]]:  # pyright: ignore[reportUnusedFunction]
        """200 when there is nothing more to wait for: ready, or, with the reason, never without a change."""
        state = look()
        engine = state.engine
        missing = state.sandbox == UNAVAILABLE
        ready = engine is not None and engine.condition.database and not state.sandbox_problem
        words = f"The worker takes no tasks: {state.sandbox_problem}" if missing else ""
        return words, 200 if ready or missing else 503, {"Content-Type": "text/plain; charset=utf-8"}

    @app.get("/metrics")
    async def numbers() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Numbers for Prometheus."""
        return Response(metrics.text(look().standing), content_type=CONTENT_TYPE)

    return app
