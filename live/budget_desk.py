"""What a person has spent and may spend: today, the last days, and the budget that they set themselves."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast

from live.rows import maybe_time
from live.supabase_access import SupabaseAccess
from pythonic_assistant.adapters.store.calls import in_words
from pythonic_assistant.domain.errors import InvalidInputError

_KNOWN_SECONDS = 10.0
_DAYS = 200  # rows: a day has one for each model


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Today's spending and the budgets of a day, in US dollars and tokens.

    Attributes:
        day: in the person's time zone.
        unpriced: replies whose cost nobody knows; `cost` is without them.
        own_cost, own_tokens: the person's own budget, or None.
        most_cost, most_tokens: the operator's, or None.
    """

    day: date
    time_zone: str
    ends_at: datetime | None
    cost: float
    tokens: int
    replies: int
    unpriced: int
    own_cost: float | None
    own_tokens: int | None
    most_cost: float | None
    most_tokens: int | None

    @property
    def cost_limit(self) -> float | None:
        """What holds of both budgets."""
        return _least(self.own_cost, self.most_cost)

    @property
    def tokens_limit(self) -> int | None:
        """What holds of both budgets."""
        least = _least(self.own_tokens, self.most_tokens)
        return None if least is None else int(least)

    @property
    def spent(self) -> bool:
        """Whether no task starts any more today."""
        cost, tokens = self.cost_limit, self.tokens_limit
        return (cost is not None and self.cost >= cost) or (tokens is not None and self.tokens >= tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class DaySpent:
    """What one model cost on one day; `cost` is None where nothing of it is known."""

    day: date
    model: str
    replies: int
    tokens: int
    cost: float | None
    unpriced: int


class BudgetDesk:
    """What a person can read and set. Every method raises what `in_words` and the token do."""

    def __init__(self, access: SupabaseAccess, user_id: str, token: Callable[[], Awaitable[str]]) -> None:
        self._access = access
        self._user_id = user_id
        self._token = token
        self._known: tuple[float, Spending] | None = None

    async def known(self) -> Spending:
        """As `today`; as it was up to 10 s ago where nothing was changed here."""
        if self._known is not None and time.monotonic() - self._known[0] < _KNOWN_SECONDS:
            return self._known[1]
        return await self.today()

    async def today(self) -> Spending:
        """What was spent today, and the budgets."""
        client = await self._access.client(await self._token())
        with in_words("read what was spent"):
            found = await client.rpc("own_spend", {}).execute()
        row = cast("Mapping[str, Any] | None", found.data)
        if row is None:
            raise InvalidInputError("This account has no profile any more: sign in again.")
        today = spending_of(row)
        self._known = (time.monotonic(), today)
        return today

    async def days(self) -> tuple[DaySpent, ...]:
        """The last days on which something was spent, the newest first."""
        client = await self._access.client(await self._token())
        with in_words("read what was spent"):
            found = (
                await client.table("spend_by_day")
                .select("day,model,replies,input_tokens,output_tokens,cost,unpriced")
                .eq("user_id", self._user_id)
                .order("day", desc=True)
                .limit(_DAYS)
                .execute()
            )
        return tuple(_day(row) for row in cast("list[Mapping[str, Any]]", found.data))

    async def save(self, *, cost: float | None, tokens: int | None, time_zone: str) -> None:
        """Set the person's own budget.

        Raises:
            InvalidInputError: the database refuses a value; the sentence says why.
        """
        self._known = None
        client = await self._access.client(await self._token())
        row = {"daily_cost": cost, "daily_tokens": tokens, "time_zone": time_zone}
        with in_words("save the budget"):
            await client.table("profiles").update(row).eq("id", self._user_id).execute()


def spending_of(row: Mapping[str, Any]) -> Spending:
    """Read what `own_spend` returns."""
    return Spending(
        day=date.fromisoformat(str(row["day"])),
        time_zone=str(row["time_zone"]),
        ends_at=maybe_time(row.get("ends_at")),
        cost=_number(row.get("cost")) or 0.0,
        tokens=_whole(row.get("tokens")) or 0,
        replies=_whole(row.get("replies")) or 0,
        unpriced=_whole(row.get("unpriced")) or 0,
        own_cost=_number(row.get("daily_cost")),
        own_tokens=_whole(row.get("daily_tokens")),
        most_cost=_number(row.get("most_daily_cost")),
        most_tokens=_whole(row.get("most_daily_tokens")),
    )


def _day(row: Mapping[str, Any]) -> DaySpent:
    return DaySpent(
        day=date.fromisoformat(str(row["day"])[:10]),
        model=str(row.get("model") or "?"),
        replies=_whole(row.get("replies")) or 0,
        tokens=(_whole(row.get("input_tokens")) or 0) + (_whole(row.get("output_tokens")) or 0),
        cost=_number(row.get("cost")),
        unpriced=_whole(row.get("unpriced")) or 0,
    )


def _least(one: float | None, other: float | None) -> float | None:
    given = [value for value in (one, other) if value is not None]
    return min(given) if given else None


def _number(value: Any) -> float | None:
    """Exact numbers come as numbers or as texts."""
    return None if value is None else float(value)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
