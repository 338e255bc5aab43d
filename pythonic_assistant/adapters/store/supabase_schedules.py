"""Schedules in Supabase, as workers deal with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from supabase import AsyncClient

from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.domain.schedule import DueSchedule, ScheduleLook, SchedulePlan


class SupabaseSchedules:
    """For workers: the client was made with the secret key.

    Args:
        most: how many schedules one call names.
    """

    def __init__(self, client: AsyncClient, *, most: int = 20) -> None:
        self._client = client
        self._most = most

    async def fire(self, plans: Sequence[SchedulePlan]) -> ScheduleLook:
        """Carry out plans, and learn which schedules need one now.

        Raises:
            StoreUnavailableError: no answer; what was carried out is stale the next time.
            InvalidInputError: the database refuses the plans.
        """
        arguments: dict[str, Any] = {"plans": [_row(plan) for plan in plans], "most": self._most}
        reply: Any = await call("fire schedules", self._client.rpc("fire_schedules", arguments).execute())
        answer: Mapping[str, Any] = reply.data
        seconds = answer["next_due_seconds"]
        return ScheduleLook(
            now=datetime.fromisoformat(answer["now"]),
            due=tuple(_due(row) for row in answer["due"]),
            outcomes=tuple((str(done["id"]), str(done["outcome"])) for done in answer["done"]),
            next_due_seconds=None if seconds is None else float(seconds),
        )


def _due(row: Mapping[str, Any]) -> DueSchedule:
    return DueSchedule(
        id=str(row["id"]),
        cron=str(row["cron"]),
        time_zone=str(row["time_zone"]),
        missed=row["missed"],
        planned_from=datetime.fromisoformat(row["planned_from"]),
        stamp=str(row["planned_from"]),
        next_at=datetime.fromisoformat(row["next_at"]) if row["next_at"] else None,
    )


def _row(plan: SchedulePlan) -> dict[str, Any]:
    def text(moment: datetime | None) -> str | None:
        return moment.isoformat() if moment else None

    return {
        "id": plan.due.id,
        "planned_from": plan.due.stamp,
        "was": text(plan.due.next_at),
        "next_at": text(plan.next_at),
        "due_at": text(plan.due_at),
        "note": plan.note,
        "skipped": plan.skipped,
        "skipped_at": text(plan.skipped_at),
        "problem": plan.problem,
    }
