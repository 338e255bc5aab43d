"""The plans of the queue's functions: they keep to their indexes whatever the statistics say.

The functions are asked for their own plans: `debug_print_plan` prints each statement as it is planned, those
inside of functions as well, and `pg_stat_xact_user_tables` says how many rows a call has read.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.integration.queue_calls import Queue

pytestmark = pytest.mark.timeout(120)

HISTORY = 40_000


@asynccontextmanager
async def _rows_by_hand(queue: Queue) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Inside, rows are what is written: no admission, and no analysis of the table."""
    async with queue.connection.transaction():
        await queue.connection.execute("set local session_replication_role = replica")
        yield queue.connection


@pytest.fixture
async def stale(queue: Queue) -> AsyncIterator[Queue]:
    """A queue whose statistics are those of an empty table, with a long history and a long backlog."""
    person = await queue.person()
    tables = "public.tasks, public.messages, public.threads"
    for table in tables.split(", "):
        await queue.connection.execute(f"alter table {table} set (autovacuum_enabled = off)")
    await queue.connection.execute("delete from public.tasks")
    await queue.connection.execute(f"vacuum analyze {tables}")
    async with _rows_by_hand(queue) as connection:
        await connection.execute(
            """insert into public.tasks (user_id, prompt, queue, kind, state, finished_at, error)
            select $1, 'x', $2, 'probe', 'failed', now(), 'x' from generate_series(1, $3::integer)""",
            person,
            queue.name,
            HISTORY,
        )
        await connection.execute(
            """insert into public.tasks (user_id, prompt, queue, kind, state, priority, run_at)
            select $1, 'x', $2, 'probe', case when n % 4 = 0 then 'scheduled' else 'queued' end, n % 7,
                case when n % 4 = 0 then now() + interval '1 day' else now() end
            from generate_series(1, $3::integer) n""",
            person,
            queue.name,
            HISTORY // 4,
        )
    yield queue
    async with _rows_by_hand(queue) as connection:
        await connection.execute("delete from public.tasks where user_id = $1", person)
    for table in tables.split(", "):
        await queue.connection.execute(f"alter table {table} reset (autovacuum_enabled)")
    await queue.connection.execute(f"vacuum analyze {tables}")


async def _plans(queue: Queue, call: str, *arguments: Any) -> list[str]:
    """The plans of a call's statements, in a session that has none yet."""
    said: list[str] = []
    connection = await asyncpg.connect(queue.url)
    try:
        connection.add_log_listener(lambda _, message: said.append(f"{message.message}\n{message.detail}"))
        await connection.execute("set debug_print_plan = on; set client_min_messages = log")
        await connection.fetchval(call, *arguments)
    finally:
        await connection.close()
    plans = [text for text in said if text.startswith("plan:")]
    assert plans, "no plan was printed"
    return plans


async def _scans(queue: Queue, plans: list[str]) -> set[tuple[str, str]]:
    """How the plans read public.tasks: the kind of scan and the index."""
    names = {
        str(row["oid"]): row["relname"]
        for row in await queue.connection.fetch(
            "select c.oid::bigint as oid, c.relname from pg_class c where relkind in ('r', 'i')"
        )
    }
    found: set[tuple[str, str]] = set()
    for plan in plans:
        relations = re.findall(
            r"\{RANGETBLENTRY.*?:rtekind (\d+)(.*?)(?=\{RANGETBLENTRY|:permInfos|\Z)", plan, re.DOTALL
        )
        of_table = [re.search(r":relid (\d+)", rest) if kind == "0" else None for kind, rest in relations]
        for match in re.finditer(
            r"\{(SEQSCAN|BITMAPHEAPSCAN|INDEXSCAN|INDEXONLYSCAN|BITMAPINDEXSCAN)\b", plan
        ):
            rest = plan[match.end() :]
            relation = re.search(r":(?:scan\.)?scanrelid (\d+)", rest)
            assert relation is not None
            table = of_table[int(relation.group(1)) - 1]
            if table is None or names[table.group(1)] != "tasks":
                continue
            index = re.search(r":indexid (\d+)", rest)
            by = names[index.group(1)] if match.group(1).startswith("INDEX") and index else ""
            found.add((match.group(1), by))
    return found


CLAIM = "select public.claim_tasks($1, $2, $3, 30, '[]', $4)"
CYCLE = "select public.cycle_tasks($1, $2, $3, 30, '[]', '{}', $4)"


async def test_the_plans_of_a_claim_keep_to_their_indexes_with_statistics_of_an_empty_table(
    stale: Queue,
) -> None:
    plans = await _plans(stale, "select pythonic.next_tasks($1, $2, 3)", stale.name, ["gpu"])
    scans = await _scans(stale, plans)
    assert ("INDEXSCAN", "tasks_claim") in scans
    assert {index for _, index in scans} == {"tasks_claim"}, scans
    locking = [plan for plan in plans if "{LOCKROWS" in plan]
    assert len(locking) == 1
    assert "{SORT" not in locking[0], "the order is the index's own"
    whole = await _scans(stale, await _plans(stale, CLAIM, stale.worker, stale.name, 3, []))
    assert {kind for kind, _ in whole} <= {"INDEXSCAN", "INDEXONLYSCAN"}, whole
    assert ("INDEXSCAN", "tasks_pkey") in whole


async def test_the_plans_of_a_finish_use_no_partial_index(stale: Queue) -> None:
    (task,) = await stale.claim(1)
    ended = _finishes([task])
    plans = await _plans(stale, "select pythonic.finish_many($1, $2)", stale.worker, ended)
    by_id = {
        scan
        for scan in await _scans(stale, plans)
        if scan[1] not in ("tasks_held_of_user", "tasks_active_of_user")
    }
    assert by_id <= {("INDEXSCAN", "tasks_pkey"), ("INDEXONLYSCAN", "tasks_pkey")}, by_id


def _finishes(tasks: list[dict[str, Any]]) -> str:
    return json.dumps(
        [
            {
                "how": "finish",
                "id": task["id"],
                "attempt": task["attempt"],
                "answer": "a",
                "verdict": "unverified",
            }
            for task in tasks
        ]
    )


async def test_a_call_reads_a_few_rows_of_a_long_table(stale: Queue) -> None:
    """Also after the plans were made, and with dead entries in the small indexes."""
    tasks: list[dict[str, Any]] = []
    for _ in range(30):
        reply = await stale.connection.fetchval(CYCLE, stale.worker, stale.name, 5, _finishes(tasks))
        tasks = json.loads(reply)["tasks"]
        assert len(tasks) == 5
    for call, arguments in (
        (CYCLE, (5, _finishes(tasks))),
        (CLAIM, (5, [])),
    ):
        async with stale.connection.transaction():
            before = await stale.rows_read()
            await stale.connection.fetchval(call, stale.worker, stale.name, *arguments)
            after = await stale.rows_read()
        assert after[0] == before[0], call
        assert after[1] - before[1] < 150, f"{call} read {after[1] - before[1]} rows"


async def test_no_function_compiles_its_queries(queue: Queue) -> None:
    """Compiling one took 600 ms; and a plan for each array of ids doubled what a finish costs."""
    settings = {
        row["proname"]: set(row["proconfig"])
        for row in await queue.connection.fetch(
            """select p.proname, p.proconfig from pg_proc p
            where p.pronamespace = 'pythonic'::regnamespace and p.proname = any($1)""",
            [
                "next_tasks",
                "claim",
                "finish_many",
                "heartbeat_tasks",
                "reap_tasks",
                "start_due",
                "promote_held",
            ],
        )
    }
    assert len(settings) == 7
    for name, has in settings.items():
        assert {"jit=off", "plan_cache_mode=force_generic_plan", "enable_seqscan=off"} <= has, name


async def test_only_signs_of_life_and_logs_may_be_lost_in_a_crash(queue: Queue) -> None:
    task = await queue.add(await queue.person())

    async def flushes(call: str, *arguments: Any) -> bool:
        async with queue.connection.transaction():
            await queue.connection.fetchval(call, *arguments)
            return await queue.connection.fetchval("show synchronous_commit") == "on"

    def events(kind: str, seq: int) -> str:
        return json.dumps([{"seq": seq, "kind": kind, "data": {"plan": {"steps": []}}}])

    append = "select public.append_events($1, $2, 1, $3)"
    beat = json.dumps([{"id": task, "attempt": 1}])
    assert await flushes(CLAIM, queue.worker, queue.name, 1, [])
    assert not await flushes("select public.heartbeat_tasks($1, $2, 30)", queue.worker, beat)
    assert not await flushes("select public.worker_seen($1, '{}')", queue.worker)
    assert not await flushes(append, queue.worker, task, events("noted", 1))
    assert await flushes(append, queue.worker, task, events("plan_made", 2))
    assert await flushes(CYCLE, queue.worker, queue.name, 1, _finishes([{"id": task, "attempt": 1}]))
    assert await queue.state(task) == "succeeded"


async def test_renewing_a_lease_touches_no_index(queue: Queue) -> None:
    task = await queue.add(await queue.person())
    await queue.claim()
    beat = json.dumps([{"id": task, "attempt": 1}])
    async with queue.connection.transaction():
        for _ in range(5):
            await queue.call("heartbeat_tasks", queue.worker, beat, 30.0)
        hot = await queue.connection.fetchval(
            "select n_tup_hot_upd from pg_stat_xact_user_tables where relname = 'tasks'"
        )
    assert hot == 5


async def test_what_refers_to_an_assistant_is_found_by_an_index(queue: Queue) -> None:
    unindexed = await queue.connection.fetch(
        """select c.conrelid::regclass::text as name from pg_constraint c
        where c.contype = 'f' and c.confrelid = 'public.assistants'::regclass
            and c.conrelid in ('public.tasks'::regclass, 'public.threads'::regclass)
            and not exists (select 1 from pg_index i
                where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1] and i.indisvalid)"""
    )
    assert [row["name"] for row in unindexed] == []
    async with queue.connection.transaction():
        await queue.connection.execute("set local enable_seqscan = off")
        for table in ("tasks", "threads"):
            plan = await queue.connection.fetchval(
                f"explain (format json) update public.{table} set assistant_id = null "
                "where assistant_id = '00000000-0000-0000-0000-000000000001'"
            )
            assert f'"{table}_of_assistant"' in plan, plan
