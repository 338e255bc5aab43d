"""What waits for a person, and what was done for them outside: read and decided with their token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from live.rows import maybe_time
from live.supabase_access import SupabaseAccess
from pythonic_assistant.adapters.store.approvals import Approvals
from pythonic_assistant.adapters.store.calls import in_words
from pythonic_assistant.domain.decision import Approval, StandingRule

_COLUMNS: Final = (
    "id,task_id,asking,step_id,attempt,met_attempt,kind,name,risk,request,state,result,error,created_at,started_at,"
    "finished_at"
)
MOST_EFFECTS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRow:
    """An action outside. Fields as in the table `effects`."""

    id: int
    asking: int
    kind: str
    name: str
    risk: str
    state: str
    attempt: int
    met_attempt: int
    request: Mapping[str, Any]
    result: Any = None
    error: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def given_back(self) -> bool:
        """Whether a later attempt came to it again and was given what was recorded."""
        return self.state in ("succeeded", "failed") and self.met_attempt > self.attempt


class ApprovalDesk:
    """What a person can do about what waits. Every method raises what `in_words` and the token do."""

    def __init__(self, access: SupabaseAccess, token: Callable[[], Awaitable[str]]) -> None:
        self._access = access
        self._token = token

    async def pending(self) -> tuple[Approval, ...]:
        """What waits for the person over all threads, newest first."""
        return await (await self._approvals()).pending()

    async def of_tasks(self, ids: Sequence[int]) -> tuple[Approval, ...]:
        """What was asked for these tasks, decided or not, oldest first."""
        return await (await self._approvals()).of_tasks(ids)

    async def some(self, ids: Collection[int]) -> tuple[Approval, ...]:
        """Those of these that are the person's, newest first."""
        return await (await self._approvals()).some(ids)

    async def decide(
        self, approval_id: int, decision: str, answer: str | None = None, *, always: bool = False
    ) -> str:
        """Decide; see `Approvals.decide`."""
        return await (await self._approvals()).decide(approval_id, decision, answer, always=always)

    async def rules(self) -> tuple[StandingRule, ...]:
        """What the person has allowed for good, newest first."""
        return await (await self._approvals()).rules()

    async def withdraw(self, rule_id: int) -> None:
        """Take a standing rule back."""
        await (await self._approvals()).withdraw(rule_id)

    async def effects(self, task_id: int) -> tuple[EffectRow, ...]:
        """What a task did outside, or wanted to, in order; questions are no such thing."""
        client = await self._access.client(await self._token())
        with in_words("read what was done outside"):
            query = client.table("effects").select(_COLUMNS).eq("task_id", task_id)
            found = await query.order("id").limit(MOST_EFFECTS).execute()
        rows = cast("list[Mapping[str, Any]]", found.data)
        return tuple(_effect(row) for row in rows if "question" not in (row.get("request") or {}))

    async def _approvals(self) -> Approvals:
        return Approvals(await self._access.client(await self._token()))


def _effect(row: Mapping[str, Any]) -> EffectRow:
    request: Any = row.get("request")
    return EffectRow(
        id=int(row["id"]),
        asking=int(row["asking"]),
        kind=str(row["kind"]),
        name=str(row["name"]),
        risk=str(row["risk"]),
        state=str(row["state"]),
        attempt=int(row["attempt"]),
        met_attempt=int(row["met_attempt"]),
        request=cast("Mapping[str, Any]", request) if isinstance(request, dict) else {},
        result=row.get("result"),
        error=str(row.get("error") or ""),
        started_at=maybe_time(row.get("started_at")),
        finished_at=maybe_time(row.get("finished_at")),
    )
