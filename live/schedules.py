"""A person's schedules: listed with their last runs, added, changed, paused, run now, removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from live.rows import maybe_time
from live.supabase_access import SupabaseAccess
from pythonic_assistant.adapters.schedules.cron import in_words as in_words
from pythonic_assistant.adapters.schedules.cron import next_times, read_cron, read_zone
from pythonic_assistant.adapters.schedules.cron import zone_names as zone_names
from pythonic_assistant.adapters.schedules.wording import moment_in_words as moment_in_words
from pythonic_assistant.adapters.schedules.words import read_when
from pythonic_assistant.adapters.store.calls import in_words as errors_in_words
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.schedule import Once, When

_COLUMNS = (
    "id,name,prompt,cron,time_zone,missed,paused_at,problem,next_at,last_at,skipped,skipped_at,assistant_id"
)
_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A task that a schedule made."""

    id: int
    state: str
    verdict: str | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """A schedule. Fields as in the table `schedules`; `runs` are its last tasks, the newest first."""

    id: str
    name: str
    prompt: str
    cron: str
    time_zone: str
    missed: str
    paused: bool
    problem: str | None
    assistant_id: str | None
    skipped: int
    skipped_at: datetime | None
    runs: tuple[Run, ...] = ()

    def skipped_in_words(self) -> str:
        """When the last run that was skipped was due; "" when none was."""
        if self.skipped_at is None:
            return ""
        try:
            return moment_in_words(self.skipped_at.astimezone(read_zone(self.time_zone)))
        except InvalidInputError:
            return f"{moment_in_words(self.skipped_at.astimezone(UTC))} UTC"

    def in_words(self) -> str:
        """When it is due, in words; the expression itself where it cannot be read."""
        try:
            return in_words(read_cron(self.cron))
        except InvalidInputError:
            return self.cron

    def next_times(self, now: datetime, count: int = 5) -> tuple[datetime, ...]:
        """The next due times in its zone; none while it is paused or has a problem."""
        if self.paused or self.problem:
            return ()
        try:
            return next_times(read_cron(self.cron), read_zone(self.time_zone), now, count)
        except InvalidInputError:
            return ()


def understood(words: str, time_zone: str) -> When:
    """What a person's words mean now.

    Raises:
        InvalidInputError: words or zone are not understood.
    """
    return read_when(words, datetime.now(UTC).astimezone(read_zone(time_zone)))


def times_of(when: When, time_zone: str) -> tuple[datetime, ...]:
    """The next five due times of what was understood, or its only one."""
    if isinstance(when, Once):
        return (when.at,)
    return next_times(when.cron, read_zone(time_zone), datetime.now(UTC))


class ScheduleDesk:
    """What a person can do with their schedules. Every method raises what `in_words` and the token do."""

    def __init__(self, access: SupabaseAccess, token: Callable[[], Awaitable[str]]) -> None:
        self._access = access
        self._token = token

    async def schedules(self) -> tuple[ScheduleRow, ...]:
        """All of them, the oldest first."""
        client = await self._access.client(await self._token())
        with errors_in_words("read the schedules"):
            found = await client.table("schedules").select(_COLUMNS).order("created_at").execute()
        rows = _rows(found.data)
        runs: dict[str, list[Run]] = {}
        if rows:
            with errors_in_words("read the runs of the schedules"):
                made = await client.rpc("schedule_runs", {"most": _RUNS}).execute()
            for row in _rows(made.data):
                runs.setdefault(str(row["schedule_id"]), []).append(_run(row))
        return tuple(_schedule(row, tuple(runs.get(str(row["id"]), ()))) for row in rows)

    async def add(self, values: Mapping[str, Any]) -> None:
        """Add one; fields as in the table."""
        client = await self._access.client(await self._token())
        with errors_in_words("save the schedule"):
            await client.table("schedules").insert(dict(values)).execute()

    async def change(self, schedule_id: str, values: Mapping[str, Any]) -> None:
        """Change fields of one."""
        client = await self._access.client(await self._token())
        with errors_in_words("change the schedule"):
            changed = await client.table("schedules").update(dict(values)).eq("id", schedule_id).execute()
        if not changed.data:
            raise InvalidInputError("This schedule is gone: it was removed elsewhere.")

    async def pause(self, schedule_id: str, *, paused: bool) -> None:
        """Let it make no tasks, or make them again."""
        await self.change(schedule_id, {"paused_at": datetime.now(UTC).isoformat() if paused else None})

    async def run_now(self, schedule_id: str, key: str) -> int:
        """Make a task of it now; with the same key it is the same task. Returns its id."""
        client = await self._access.client(await self._token())
        with errors_in_words("run the schedule"):
            made = await client.rpc("run_schedule", {"schedule_id": schedule_id, "dedupe_key": key}).execute()
        return int(cast("int", made.data))

    async def remove(self, schedule_id: str) -> None:
        """Delete one; the tasks that it made stay."""
        client = await self._access.client(await self._token())
        with errors_in_words("remove the schedule"):
            await client.table("schedules").delete().eq("id", schedule_id).execute()


def _schedule(row: Mapping[str, Any], runs: tuple[Run, ...]) -> ScheduleRow:
    return ScheduleRow(
        id=str(row["id"]),
        name=str(row["name"]),
        prompt=str(row["prompt"]),
        cron=str(row["cron"]),
        time_zone=str(row["time_zone"]),
        missed=str(row["missed"]),
        paused=row.get("paused_at") is not None,
        problem=row.get("problem"),
        assistant_id=row.get("assistant_id"),
        skipped=int(row.get("skipped") or 0),
        skipped_at=maybe_time(row.get("skipped_at")),
        runs=runs,
    )


def _run(row: Mapping[str, Any]) -> Run:
    return Run(
        id=int(row["id"]),
        state=str(row["state"]),
        verdict=row.get("verdict"),
        created_at=maybe_time(row.get("created_at")),
    )


def _rows(data: Any) -> list[Mapping[str, Any]]:
    return cast("list[Mapping[str, Any]]", data) if isinstance(data, list) else []
