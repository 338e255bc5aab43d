"""What has to be true of every task in the end, whoever was killed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from tests.drill.database import Database
from tests.drill.record import Book
from tests.servers.effects import Effects


def counted(effects: Effects) -> Counter[tuple[int, str]]:
    """How often each task's request and message were done; a repetition that was recognised is none."""
    found: Counter[tuple[int, str]] = Counter()
    for row in effects.received():
        if row.get("again"):
            continue
        body = json.loads(row["body"])
        if row["path"].startswith("/requests"):
            found[body["number"], "request"] += 1
        else:
            found[int(body["to"].removeprefix("n")), "message"] += 1
    return found


async def faults(database: Database, effects: Effects, book: Book) -> list[str]:
    """Everything that is wrong, in a sentence each; empty when nothing is."""
    wrong: list[str] = []
    done = counted(effects)
    events: dict[int, list[Any]] = defaultdict(list)
    for row in await database.fetch(
        "select task_id, attempt, seq, kind, step_id from public.task_events order by task_id, attempt, seq"
    ):
        events[row["task_id"]].append(row)
    for task, (number, kind) in book.tasks.items():
        rows = await database.fetch(
            """select t.state, t.verdict, t.answer, t.error,
                (select count(*) from public.messages m
                    where m.task_id = t.id and m.role = 'assistant') as answers,
                (select count(*) from public.artifacts a where a.task_id = t.id) as artifacts,
                (select count(*) from public.artifacts a join storage.objects o on o.name = a.storage_path
                    where a.task_id = t.id) as stored,
                (select count(*) from public.approvals p
                    where p.task_id = t.id and p.state = 'pending') as pending,
                (select count(*) from public.effects e
                    where e.task_id = t.id and e.state = 'succeeded') as recorded
            from public.tasks t where t.id = $1""",
            task,
        )
        name = f"task {task} ({kind}, number {number})"
        if not rows:
            wrong.append(f"{name} is lost.")
            continue
        row = rows[0]
        value = str(sum(range(number, number + 10)) + 1)
        if (row["state"], row["verdict"], row["answer"]) != ("succeeded", "proven", value):
            wrong.append(
                f"{name} ended as {row['state']}, {row['verdict']}: {row['answer']!r}, {row['error']!r}."
            )
        wrong += [
            f"{name}: its {what} was done {done[number, what]} times."
            for what in ("request", "message")
            if done[number, what] != 1
        ]
        expected = {"answers": 1, "artifacts": 1, "stored": 1, "pending": 0, "recorded": 2}
        wrong += [f"{name}: {k} is {row[k]}, not {v}." for k, v in expected.items() if row[k] != v]
        wrong += [f"{name}: {said}" for said in _of_events(events[task])]
    return wrong


def _of_events(rows: list[Any]) -> list[str]:
    wrong: list[str] = []
    numbers: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        numbers[row["attempt"]].append(row["seq"])
    for attempt, seen in numbers.items():
        if seen != list(range(1, len(seen) + 1)):
            wrong.append(f"the events of attempt {attempt} have gaps: {seen}.")
    finished = Counter(row["step_id"] for row in rows if row["kind"] == "step_finished")
    if finished != Counter({"s1": 1, "s2": 1, "s3": 1}):
        wrong.append(f"steps were finished {dict(finished)} times.")
    return wrong
