-- The same behaviour with less work for each task that starts and ends; measured by `make bench-queue`.
--
-- Telling people and workers was the third part of a cycle: facts were made as one jsonb array and taken apart
-- again three times. Now one statement groups them by person, and the rare parts run only when there is something.

-- A task without a dedupe_key cannot be asked twice: it need not be in this index, which every start of a task
-- had to write.
drop index public.tasks_dedupe;
create unique index tasks_dedupe on public.tasks (user_id, dedupe_key)
    where dedupe_key is not null and state in ('scheduled', 'held', 'queued', 'running', 'waiting');

create function pythonic.tell_person(p_user uuid, p_facts jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
declare
    v_count integer := jsonb_array_length(p_facts);
begin
    if v_count = 1 then
        perform pythonic.tell('user:' || p_user::text, 'task', p_facts -> 0);
    elsif v_count <= 500 then
        perform pythonic.tell('user:' || p_user::text, 'tasks', jsonb_build_object('tasks', p_facts));
    else
        -- Realtime takes 256 KB, about a thousand of these.
        perform pythonic.tell('user:' || p_user::text, 'tasks', jsonb_build_object('tasks', part.facts))
        from (
            select jsonb_agg(f.fact order by f.place) as facts
            from jsonb_array_elements(p_facts) with ordinality as f (fact, place)
            group by (f.place - 1) / 500 order by (f.place - 1) / 500) part;
    end if;
end
$$;
comment on function pythonic.tell_person(uuid, jsonb) is 'Tells a person''s pages of tasks that were added or changed: an array of facts.';

create or replace function pythonic.tasks_added() returns trigger
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_said record;
    v_queues text[] := '{}';
begin
    insert into public.messages (thread_id, user_id, task_id, role, content)
        select a.thread_id, a.user_id, a.id, 'user', a.prompt from added a where a.kind = 'task' order by a.id;
    -- A thread that was made for its task has both already.
    with said as (
        select distinct on (a.thread_id) a.thread_id,
            left(btrim(regexp_replace(a.prompt, '\s+', ' ', 'g')), 80) as title
        from added a where a.kind = 'task' order by a.thread_id, a.id
    ), touched as (
        select th.id from public.threads th
        where th.id = any (array(select s.thread_id from said s))
            and (th.title = 'New thread' or th.updated_at < now())
        order by th.id for no key update
    )
    update public.threads th set
        updated_at = now(),
        title = case when th.title = 'New thread' then s.title else th.title end
    from said s
    where th.id = any (array(select c.id from touched c)) and s.thread_id = th.id;
    for v_said in
        select a.user_id,
            jsonb_agg(jsonb_build_object(
                'task_id', a.id, 'thread_id', a.thread_id, 'kind', a.kind, 'state', a.state,
                'attempt', a.attempt, 'verdict', a.verdict, 'cancelling', a.cancel_requested_at is not null)
                order by a.id) as facts,
            -- One that is due before a worker looks again by itself must wake one, so that it sleeps less long.
            array_agg(distinct a.queue) filter (where a.state = 'queued'
                or a.state = 'scheduled' and a.run_at < now() + interval '1 minute') as queues
        from added a group by a.user_id
    loop
        perform pythonic.tell_person(v_said.user_id, v_said.facts);
        v_queues := v_queues || v_said.queues;
    end loop;
    if v_queues <> '{}' then
        perform pythonic.wake_workers(array(select distinct q.name from unnest(v_queues) as q (name)));
    end if;
    return null;
end
$$;

create or replace function pythonic.tasks_changed() returns trigger
language plpgsql security definer set search_path = ''
    -- The tables of a trigger have no statistics: a plan for one row must do for a thousand as well.
    set enable_nestloop = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_said record;
    v_queues text[] := '{}';
    v_cancel jsonb;
begin
    for v_said in
        select n.user_id,
            jsonb_agg(jsonb_build_object(
                'task_id', n.id, 'thread_id', n.thread_id, 'kind', n.kind, 'state', n.state,
                'attempt', n.attempt, 'verdict', n.verdict, 'cancelling', n.cancel_requested_at is not null)
                order by n.id) as facts,
            -- One that is due before a worker looks again by itself must wake one, so that it sleeps less long.
            array_agg(distinct n.queue) filter (where n.state = 'queued'
                or n.state = 'scheduled' and n.run_at < now() + interval '1 minute') as queues,
            bool_or(n.state = 'running' and n.cancel_requested_at is not null) as cancelling
        from changed n join former f on f.id = n.id
        where n.state is distinct from f.state or n.cancel_requested_at is distinct from f.cancel_requested_at
            or n.held_because is distinct from f.held_because
        group by n.user_id
    loop
        perform pythonic.tell_person(v_said.user_id, v_said.facts);
        v_queues := v_queues || v_said.queues;
        if v_said.cancelling then
            for v_cancel in
                select jsonb_build_object('task_id', c.fact -> 'task_id', 'attempt', c.fact -> 'attempt')
                from jsonb_array_elements(v_said.facts) as c (fact)
                where c.fact ->> 'state' = 'running' and (c.fact -> 'cancelling')::boolean
            loop
                perform pythonic.tell('queue', 'cancel', v_cancel);
                perform pg_catalog.pg_notify('pythonic_queue', (v_cancel || '{"event": "cancel"}')::text);
            end loop;
        end if;
    end loop;
    if v_queues <> '{}' then
        perform pythonic.wake_workers(array(select distinct q.name from unnest(v_queues) as q (name)));
    end if;
    return null;
end
$$;

drop function pythonic.tell_of_tasks(jsonb);

-- Only what was not kept needs another look at the table.
create or replace function pythonic.finish_many(p_worker uuid, p_ended jsonb) returns jsonb
language plpgsql security definer set search_path = ''
    -- By tasks_pkey alone: the small partial indexes are full of dead entries, which made this ten times slower.
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
as $$
declare
    v_ids bigint[] := array(select (e ->> 'id')::bigint from jsonb_array_elements(p_ended) e);
    v_users uuid[];
    v_user uuid;
    v_done bigint[];
    v_again bigint[];
    v_threads uuid[];
begin
    v_users := array(select distinct t.user_id from public.tasks t where t.id = any (v_ids));
    perform pythonic.lock_admissions(v_users);
    if cardinality(v_ids) > 1 then
        perform 1 from public.tasks t where t.id = any (v_ids) and t.worker_id = p_worker order by t.id for no key update;
    end if;
    with ended as materialized (
        select (e ->> 'id')::bigint as id, (e ->> 'attempt')::integer as attempt, e ->> 'answer' as answer,
            e ->> 'verdict' as verdict, coalesce(e -> 'evidence', '[]') as evidence,
            coalesce(e -> 'usage', '{}') as usage
        from jsonb_array_elements(p_ended) e
    ), done as (
        update public.tasks t set
            state = 'succeeded', finished_at = now(), worker_id = null, lease_until = null,
            answer = e.answer, verdict = e.verdict, evidence = e.evidence, usage = e.usage, error = null
        from ended e
        where t.id = e.id and t.id = any (v_ids) and t.attempt = e.attempt and t.worker_id = p_worker
        returning t.id, t.attempt, t.thread_id
    )
    select coalesce(array_agg(d.id), '{}'), array_agg(d.id) filter (where d.attempt > 1), array_agg(distinct d.thread_id)
    into v_done, v_again, v_threads from done d;
    if v_done <> '{}' then
        foreach v_user in array v_users loop
            perform pythonic.promote_held(v_user);
        end loop;
        if v_again is not null then
            delete from public.artifacts a using public.tasks t
                where t.id = any (v_again) and a.task_id = t.id and a.attempt <> t.attempt;
        end if;
        insert into public.messages (thread_id, user_id, task_id, role, content)
            select t.thread_id, t.user_id, t.id, 'assistant', t.answer from public.tasks t
            where t.id = any (v_done) and t.kind = 'task' order by t.id;
        if cardinality(v_threads) > 1 then
            perform 1 from public.threads th where th.id = any (v_threads) order by th.id for no key update;
        end if;
        update public.threads th set updated_at = now() where th.id = any (v_threads);
    end if;
    if cardinality(v_done) = jsonb_array_length(p_ended) then
        return (
            select jsonb_agg(jsonb_build_object('id', e.ending -> 'id', 'attempt', e.ending -> 'attempt', 'kept', true)
                order by e.place)
            from jsonb_array_elements(p_ended) with ordinality as e (ending, place));
    end if;
    return (
        select jsonb_agg(jsonb_build_object('id', e.ending -> 'id', 'attempt', e.ending -> 'attempt', 'kept',
            -- The same finish may come twice when its first reply was lost on the way.
            coalesce((select t.state = 'succeeded' and t.attempt = (e.ending ->> 'attempt')::integer
                from public.tasks t where t.id = (e.ending ->> 'id')::bigint), false)) order by e.place)
        from jsonb_array_elements(p_ended) with ordinality as e (ending, place));
end
$$;

-- The first attempt has nothing to go on from: looking for it cost a fifth of a claim.
create or replace function pythonic.claim_extra(p_task public.tasks) returns jsonb
language plpgsql stable security definer set search_path = '' set jit = off
as $$
begin
    if p_task.attempt = 1 then
        return '{"items": [], "spent": {"turns": 0, "input_tokens": 0, "output_tokens": 0, "cost": null}, "effects": []}';
    end if;
    return pythonic.claim_extra_before_budgets(p_task) || case
        when p_task.attempt > p_task.asked_attempt + 1 then coalesce((
            select jsonb_build_object('spent', jsonb_build_object('turns', sum(u.turns),
                'input_tokens', sum(u.input_tokens), 'output_tokens', sum(u.output_tokens), 'cost', sum(u.cost)))
            from public.usage u where u.task_id = p_task.id and u.attempt > p_task.asked_attempt
            having count(*) > 0), '{}')
        else '{}' end;
end
$$;

revoke all on function pythonic.tell_person(uuid, jsonb) from public;
