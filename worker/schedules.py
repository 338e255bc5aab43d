"""Makes tasks of schedules when they are due. Any worker does it; the database lets one of them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.schedule import DueSchedule, ScheduleLook, SchedulePlan

log = logging.getLogger(__name__)

IDLE_SECONDS: Final = (60.0, 90.0)
"""Between two looks while nothing is due: for hints that were lost, and at random, so that workers spread."""
SOONEST_SECONDS: Final = 0.05
FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 60.0

CARRIED_OUT: Final = ("fired", "planned", "problem")

Planner = Callable[[DueSchedule, datetime], SchedulePlan]
"""What to do with a schedule that is due, at a time of the database's clock."""


class Schedules(Protocol):
    """Where schedules are."""

    async def fire(self, plans: Sequence[SchedulePlan]) -> ScheduleLook:
        """Carry out plans, and name the schedules that need one.

        Raises:
            StoreUnavailableError: no answer.
            InvalidInputError: the database refuses.
        """
        ...


class ScheduleClock:
    """Sleeps until something is due, and sees to it.

    Args:
        schedules: where they are.
        plan: computes times; the database knows none.
    """

    def __init__(self, schedules: Schedules, plan: Planner) -> None:
        self._schedules = schedules
        self._plan = plan
        self._wake = asyncio.Event()

    def wake(self, _payload: Mapping[str, Any] | None = None) -> None:
        """A hint that a schedule was added or changed."""
        self._wake.set()

    async def fire_all(self) -> float | None:
        """Deal with all that is due; returns the seconds until more is, None when nothing will be.

        Raises:
            StoreUnavailableError: no answer.
            InvalidInputError: the database refuses.
        """
        plans: tuple[SchedulePlan, ...] = ()
        while True:
            look = await self._schedules.fire(plans)
            self._tell(plans, look)
            if not look.due:
                return look.next_due_seconds
            if plans and not any(outcome in CARRIED_OUT for _, outcome in look.outcomes):
                return FIRST_WAIT_SECONDS  # others were faster, and may be still at it
            plans = tuple(self._plan(due, look.now) for due in look.due)

    async def keep(self) -> None:
        """Do so until cancelled."""
        wait = FIRST_WAIT_SECONDS
        while True:
            self._wake.clear()
            try:
                seconds = await self.fire_all()
            except (StoreUnavailableError, InvalidInputError) as error:
                log.warning("schedules not looked at", extra={"action": "schedules", "reason": str(error)})
                await self._sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)
                continue
            wait = FIRST_WAIT_SECONDS
            idle = random.uniform(*IDLE_SECONDS)  # noqa: S311
            await self._sleep(idle if seconds is None else min(idle, max(seconds, SOONEST_SECONDS)))

    @staticmethod
    def _tell(plans: Sequence[SchedulePlan], look: ScheduleLook) -> None:
        by_id = {plan.due.id: plan for plan in plans}
        for schedule, outcome in look.outcomes:
            plan = by_id.get(schedule)
            if plan is None or outcome not in {"fired", "problem"}:
                continue
            extra = {"action": f"schedule_{outcome}", "schedule_id": schedule}
            if outcome == "problem":
                log.warning("schedule has a problem", extra=extra)
            else:
                extra["due_at"] = plan.due_at.isoformat() if plan.due_at else ""
                log.info("schedule fired", extra=extra)

    async def _sleep(self, seconds: float) -> None:
        """Wait for a hint, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
