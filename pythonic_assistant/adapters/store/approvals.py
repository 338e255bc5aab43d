"""What waits for a person, read and decided with that person's token."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from postgrest.exceptions import APIError
from supabase import AsyncClient

from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.domain.decision import Approval, StandingRule
from pythonic_assistant.domain.errors import InvalidInputError

_COLUMNS: Final = (
    "id,task_id,kind,question,preview,choices,standing,state,answer,created_at,expires_at,decided_at,decided_by,"
    "effects(name,risk),tasks(thread_id,prompt)"
)
_DECIDED_ALREADY: Final = "55000"
"""object_not_in_prerequisite_state: `in_words` would take it for a failure that passes."""
MOST: Final = 200


class Approvals:
    """What a person is asked. Every method raises what `calls.call` does."""

    def __init__(self, client: AsyncClient) -> None:
        """Act as the person whose token the client has."""
        self._client = client

    async def pending(self) -> tuple[Approval, ...]:
        """What waits for the person over all tasks, newest first."""
        query = self._client.table("approvals").select(_COLUMNS).eq("state", "pending")
        found = await call("read what waits", query.order("id", desc=True).limit(MOST).execute())
        return tuple(approval_of(row) for row in _rows(found.data))

    async def of_tasks(self, ids: Sequence[int]) -> tuple[Approval, ...]:
        """What was asked for these tasks, decided or not, oldest first."""
        query = self._client.table("approvals").select(_COLUMNS).in_("task_id", list(ids))
        found = await call("read the approvals", query.order("id", desc=True).limit(MOST).execute())
        return tuple(approval_of(row) for row in reversed(_rows(found.data)))

    async def some(self, ids: Collection[int]) -> tuple[Approval, ...]:
        """Those of these that are the person's, newest first."""
        query = self._client.table("approvals").select(_COLUMNS).in_("id", sorted(ids)[-MOST:])
        found = await call("read the approvals", query.order("id", desc=True).execute())
        return tuple(approval_of(row) for row in _rows(found.data))

    async def decide(
        self, approval_id: int, decision: str, answer: str | None = None, *, always: bool = False
    ) -> str:
        """Decide; returns the state of the task after it.

        Args:
            decision: approve or refuse; happened, again or stop; answer.
            answer: to a question, or why it is refused.
            always: approve alike actions for good.

        Raises:
            InvalidInputError: it is not the person's, is decided already, or cannot be decided so.
        """
        try:
            found = await call("decide", self._sent(approval_id, decision, answer, always=always))
        except _DecidedError as error:
            raise InvalidInputError(str(error)) from error
        return str(cast("Mapping[str, Any]", found)["task_state"])

    async def rules(self) -> tuple[StandingRule, ...]:
        """What the person has allowed for good, newest first."""
        query = self._client.table("standing_rules").select("id,tool,recipient,host,method,created_at")
        found = await call("read the standing rules", query.order("id", desc=True).limit(MOST).execute())
        return tuple(
            StandingRule(
                id=int(row["id"]),
                rule={name: row[name] for name in ("tool", "recipient", "host", "method") if row.get(name)},
                created_at=_time(row["created_at"]),
            )
            for row in _rows(found.data)
        )

    async def withdraw(self, rule_id: int) -> None:
        """Take a standing rule back."""
        query = self._client.table("standing_rules").delete().eq("id", rule_id)
        await call("take the rule back", query.execute())

    async def _sent(self, approval_id: int, decision: str, answer: str | None, *, always: bool) -> Any:
        arguments = {"approval": approval_id, "decision": decision, "answer": answer, "always": always}
        try:
            reply = await self._client.rpc("decide_approval", arguments).execute()
        except APIError as error:
            if str(error.code) == _DECIDED_ALREADY:
                raise _DecidedError(error.message or "This is decided already.") from error
            raise
        return reply.data


class _DecidedError(Exception):
    """Somebody was faster."""


def approval_of(row: Mapping[str, Any]) -> Approval:
    """Read a row of `approvals` with its effect and its task."""
    effect, task = _one(row.get("effects")), _one(row.get("tasks"))
    choices: Any = row.get("choices")
    preview: Any = row.get("preview")
    standing: Any = row.get("standing")
    return Approval(
        id=int(row["id"]),
        task_id=int(row["task_id"]),
        kind=row["kind"],
        question=str(row["question"]),
        preview=cast("Mapping[str, Any]", preview if isinstance(preview, dict) else {}),
        choices=tuple(one for one in cast("list[Any]", choices or []) if isinstance(one, str)),
        standing=cast("Mapping[str, Any]", standing) if isinstance(standing, dict) else None,
        state=str(row["state"]),
        answer=row.get("answer"),
        created_at=_time(row["created_at"]),
        expires_at=_time(row["expires_at"]),
        decided_at=_time(row["decided_at"]) if row.get("decided_at") else None,
        decided_by=row.get("decided_by"),
        action=str(effect.get("name") or ""),
        risk=str(effect.get("risk") or ""),
        thread_id=task.get("thread_id"),
        prompt=str(task.get("prompt") or ""),
    )


def _one(value: Any) -> Mapping[str, Any]:
    """What is embedded is one row; a list of one in some servers."""
    if isinstance(value, list):
        value = cast("list[Any]", value)[0] if value else None
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _time(value: Any) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _rows(data: Any) -> list[Mapping[str, Any]]:
    return cast("list[Mapping[str, Any]]", data) if isinstance(data, list) else []
