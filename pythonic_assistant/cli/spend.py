"""`pythonic spend`: what the person's tasks cost today, of which budget, and on the days before."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.cli.account import account_of, sign_in
from pythonic_assistant.cli.safe import safe
from pythonic_assistant.settings import Settings

_COLUMNS = "day,model,tasks,replies,input_tokens,cached_tokens,output_tokens,cost,unpriced"
_DAYS = 30


async def spend(settings: Settings, *, as_json: bool) -> int:
    """Print it."""
    person = await sign_in(account_of(settings))
    today: Any = (await call("read what was spent", person.client.rpc("own_spend", {}).execute())).data
    reply: Any = await call(
        "read what was spent",
        person.client.table("spend_by_day")
        .select(_COLUMNS)
        .eq("user_id", person.user_id)
        .order("day", desc=True)
        .limit(_DAYS)
        .execute(),
    )
    days = [_exact(row) for row in reply.data]
    if as_json:
        sys.stdout.write(json.dumps({"today": _exact(today), "days": days}, indent=2) + "\n")
        return 0
    sys.stdout.write(_today(_exact(today)) + "\n")
    if days:
        Console().print(_table(days))
    return 0


def _exact(row: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as numbers: exact ones come as texts from some servers."""
    texts = ("day", "model", "time_zone", "ends_at")
    return {name: value if value is None or name in texts else _number(value) for name, value in row.items()}


def _number(value: Any) -> float:
    number = float(value)
    return int(number) if number.is_integer() else number


def _today(row: Mapping[str, Any]) -> str:
    cost = _of(f"${row['cost']:,.4f}", _least(row, "cost"), "${:,.2f}")
    tokens = _of(f"{row['tokens']:,}", _least(row, "tokens"), "{:,}")
    unknown = f"; the cost of {row['unpriced']:,} replies is unknown" if row["unpriced"] else ""
    return f"Today ({row['day']}, {row['time_zone']}): {cost}, {tokens} tokens{unknown}."


def _least(row: Mapping[str, Any], what: str) -> float | None:
    given = [row[name] for name in (f"daily_{what}", f"most_daily_{what}") if row[name] is not None]
    return min(given, default=None)


def _of(spent: str, limit: float | None, form: str) -> str:
    return spent if limit is None else f"{spent} of {form.format(limit)}"


def _table(days: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("day", "model", box=None)
    for name in ("replies", "input", "cached", "output", "cost"):
        table.add_column(name, justify="right")
    for row in days:
        cost = "unknown" if row["cost"] is None else f"${row['cost']:,.4f}" + ("+" if row["unpriced"] else "")
        table.add_row(
            safe(str(row["day"])[:10]),
            safe(str(row["model"])),
            *(f"{row[name]:,}" for name in ("replies", "input_tokens", "cached_tokens", "output_tokens")),
            cost,
        )
    return table
