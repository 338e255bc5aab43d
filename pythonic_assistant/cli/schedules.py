"""`pythonic schedules`: tasks that come again."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from pythonic_assistant.adapters.schedules.cron import in_words, next_times, read_cron, read_zone
from pythonic_assistant.adapters.schedules.wording import moment_in_words
from pythonic_assistant.adapters.schedules.words import read_when
from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.cli.account import SignedIn, account_of, sign_in
from pythonic_assistant.cli.safe import safe
from pythonic_assistant.cli.schedule_arguments import MISSED
from pythonic_assistant.cli.when import own_zone
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.hosts import read_hosts
from pythonic_assistant.domain.schedule import Once
from pythonic_assistant.settings import Settings

NOT_SAVED_EXIT = 1
_SHORTEST_ID = 4


async def schedules(settings: Settings, given: argparse.Namespace) -> int:
    """Do what was typed; returns the exit code."""
    if given.doing == "add":
        return await _add(settings, given)
    person = await sign_in(account_of(settings))
    rows = await _read(person)
    if given.doing == "list":
        return _show(rows, as_json=given.json)
    row = _find(rows, given.schedule)
    name = row["name"]
    match given.doing:
        case "run":
            reply: Any = await call(
                "run the schedule",
                person.client.rpc(
                    "run_schedule", {"schedule_id": row["id"], "dedupe_key": str(uuid4())}
                ).execute(),
            )
            return _say({"schedule": row["id"], "task_id": reply.data}, f"Task {reply.data}: {name}", given)
        case "remove":
            query = person.client.table("schedules").delete().eq("id", row["id"])
            await call("remove the schedule", query.execute())
            return _say({"schedule": row["id"], "removed": True}, f"{name} is removed.", given)
        case "pause" | "resume":
            paused_at = datetime.now(UTC).isoformat() if given.doing == "pause" else None
            query = person.client.table("schedules").update({"paused_at": paused_at}).eq("id", row["id"])
            await call(f"{given.doing} the schedule", query.execute())
            changed = {**row, "paused_at": paused_at}
            return _say({"schedule": row["id"], "paused": paused_at is not None}, _next(changed), given)
        case _:
            raise AssertionError(given.doing)


async def _add(settings: Settings, given: argparse.Namespace) -> int:
    zone = read_zone(given.zone) if given.zone else own_zone()
    hosts = read_hosts(given.allow)
    now = datetime.now(UTC).astimezone(zone)
    when = read_when(given.when, now)
    if isinstance(when, Once):
        raise InvalidInputError(
            f"{moment_in_words(when.at)} comes once: ask it with `pythonic ask --at {given.when!r}`."
        )
    times = next_times(when.cron, zone, now)
    said = sys.stderr if given.json else sys.stdout
    said.write(f"{in_words(when.cron)} ({when.cron}, {zone.key})\n")
    said.writelines(f"  {moment_in_words(moment)}\n" for moment in times)
    if not given.yes and sys.stdin.isatty():
        answer = await asyncio.to_thread(input, "Save? [Y/n] ")
        if answer.strip().lower() not in {"", "y", "yes"}:
            sys.stderr.write("Not saved.\n")
            return NOT_SAVED_EXIT
    person = await sign_in(account_of(settings))
    row = {
        "name": given.name,
        "prompt": given.prompt,
        "cron": when.cron,
        "time_zone": zone.key,
        "missed": MISSED[given.missed],
        "model": given.model,
        "hosts": list(hosts),
        "labels": list(given.label),
    }
    reply: Any = await call("save the schedule", person.client.table("schedules").insert(row).execute())
    made = reply.data[0]
    return _say(
        {"schedule": made["id"], "cron": when.cron, "next": [moment.isoformat() for moment in times]},
        f"{made['name']} is saved as {made['id'][:8]}.",
        given,
    )


async def _read(person: SignedIn) -> Sequence[Mapping[str, Any]]:
    reply: Any = await call(
        "list the schedules",
        person.client.table("schedules")
        .select("id,name,prompt,cron,time_zone,missed,paused_at,problem,last_at,last_task_id,skipped")
        .order("created_at")
        .execute(),
    )
    return reply.data


def _find(rows: Sequence[Mapping[str, Any]], wanted: str) -> Mapping[str, Any]:
    """The schedule of a name or of the beginning of an id."""
    found = [row for row in rows if row["name"].lower() == wanted.strip().lower()]
    if not found and len(wanted) >= _SHORTEST_ID:
        found = [row for row in rows if row["id"].startswith(wanted.lower())]
    if not found:
        raise InvalidInputError(
            f"There is no schedule {wanted!r}. `pythonic schedules list` shows those that there are."
        )
    if len(found) > 1:
        ids = ", ".join(row["id"][:8] for row in found)
        raise InvalidInputError(f"{len(found)} schedules are called {wanted!r}: name one by its id, {ids}.")
    return found[0]


def _times(row: Mapping[str, Any]) -> tuple[datetime, ...]:
    if row["paused_at"] or row["problem"]:
        return ()
    try:
        return next_times(read_cron(row["cron"]), read_zone(row["time_zone"]), datetime.now(UTC))
    except InvalidInputError:
        return ()  # a worker will say in `problem` what is wrong


def _next(row: Mapping[str, Any]) -> str:
    times = _times(row)
    return f"{row['name']}: " + (f"next {moment_in_words(times[0])}" if times else "paused")


def _show(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> int:
    if as_json:
        listed = [{**row, "next": [moment.isoformat() for moment in _times(row)]} for row in rows]
        sys.stdout.write(json.dumps(listed, indent=2) + "\n")
        return 0
    if not rows:
        sys.stdout.write(
            "No schedules. Add one: pythonic schedules add 'every weekday at 8' 'Summarize the orders'\n"
        )
        return 0
    table = Table("id", "name", "when", "next", "last task", box=None)
    for row in rows:
        times = _times(row)
        upcoming = moment_in_words(times[0]) if times else "paused" if row["paused_at"] else ""
        table.add_row(
            row["id"][:8],
            safe(row["name"]),
            safe(f"{row['cron']} {row['time_zone']}"),
            safe(row["problem"] or upcoming),
            str(row["last_task_id"] or ""),
        )
    Console().print(table)
    return 0


def _say(row: Mapping[str, Any], text: str, given: argparse.Namespace) -> int:
    sys.stdout.write((json.dumps(row) if given.json else safe(text)) + "\n")
    return 0
