"""The worker's HTTP API: is it alive, is it ready, and what does it do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from quart import Quart, request

from worker.engine import Engine
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
    """

    engine: Engine | None
    way: Way | None
    problem: str
    sandbox: str
    sandbox_problem: str
    sandbox_note: str
    model: str | None


def create_app(look: Callable[[], Readiness]) -> Quart:
    """Make the app.

    Args:
        look: tells how the worker is, now.
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
        problems: list[str] = []
        if state.engine is None:
            if state.sandbox != UNAVAILABLE:
                problems.append(state.problem or "The worker is starting.")
        else:
            if not state.engine.condition.database:
                problems.append("Supabase does not answer.")
            if silent := state.engine.condition.cut_off_seconds:
                problems.append(
                    f"No heartbeat has been answered for {silent:.0f} seconds: the leases have ended, and "
                    "other workers may take the tasks."
                )
            if state.engine.condition.draining:
                problems.append("The worker is stopping.")
        if state.sandbox_problem:
            problems.append(state.sandbox_problem)
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

    return app
