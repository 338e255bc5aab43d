-- The same queue with less work for each change of a task, and for each claim.

-- ---------------------------------------------------------------------------------------------------------
-- One look at what was added or changed, in place of two or three
-- ---------------------------------------------------------------------------------------------------------

-- A key to the task locked the task's row once more for each change that is recorded, which only these triggers do.
alter table public.task_changes drop constraint task_changes_task_id_fkey;
create function pythonic.forget_changes() returns trigger
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    delete from public.task_changes c where c.task_id = any (array(select g.id from gone g));
    return null;
end
$$;
comment on function pythonic.forget_changes() is 'The changes of a task go with it.';
create trigger forget_changes after delete on public.tasks
    referencing old table as gone for each statement execute function pythonic.forget_changes();

create function pythonic.effects_follow_tasks(p_ended bigint[]) returns void
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
as $$
begin
    -- What waits for a decision is of an effect that is proposed or unknown.
    if not exists (select 1 from public.effects e
        where e.task_id = any (p_ended) and e.state in ('proposed', 'approved', 'started', 'unknown')) then
        return;
    end if;
    update public.approvals set state = 'cancelled', decided_at = clock_timestamp()
        where task_id = any (p_ended) and state = 'pending';
    update public.effects set state = case when state in ('proposed', 'approved') then 'skipped' else 'unknown' end,
        finished_at = coalesce(finished_at, clock_timestamp())
        where task_id = any (p_ended) and state in ('proposed', 'approved', 'started');
end
$$;
comment on function pythonic.effects_follow_tasks(bigint[]) is
    'When tasks end, nothing is left to decide, and what had been begun without an end is of unknown outcome.';

create or replace function pythonic.tasks_added() returns trigger
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_said record;
    v_queues text[] := '{}';
    v_users uuid[] := '{}';
    v_states text[] := '{}';
    v_rule public.event_rules;
    v_task public.tasks;
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
    insert into public.task_changes (task_id, user_id, state, why, detail, attempt)
        select a.id, a.user_id, a.state, pythonic.why_changed(null, a.state, 0, 0, a.caused_by_rules <> '{}'),
            left(a.held_because, 500), a.attempt
        from added a order by a.id;
    for v_said in
        select a.user_id,
            jsonb_agg(jsonb_build_object(
                'task_id', a.id, 'thread_id', a.thread_id, 'kind', a.kind, 'state', a.state,
                'attempt', a.attempt, 'verdict', a.verdict, 'cancelling', a.cancel_requested_at is not null)
                order by a.id) as facts,
            -- One that is due before a worker looks again by itself must wake one, so that it sleeps less long.
            array_agg(distinct a.queue) filter (where a.state = 'queued'
                or a.state = 'scheduled' and a.run_at < now() + interval '1 minute') as queues,
            array_agg(distinct a.state) filter (where a.kind = 'task') as states
        from added a group by a.user_id
    loop
        perform pythonic.tell_person(v_said.user_id, v_said.facts);
        v_queues := v_queues || v_said.queues;
        if v_said.states is not null then
            v_users := v_users || v_said.user_id;
            v_states := v_states || v_said.states;
        end if;
    end loop;
    for v_rule in
        select r.* from public.event_rules r where r.user_id = any (v_users) and r.enabled
            and (not r.pattern ? 'states' or r.pattern -> 'states' ?| v_states)
        order by r.created_at, r.id
    loop
        for v_task in select a.* from added a
            where a.user_id = v_rule.user_id and pythonic.rule_matches(v_rule, a::public.tasks) order by a.id loop
            perform pythonic.deliver_change(v_rule, v_task, null,
                pythonic.why_changed(null, v_task.state, 0, 0, v_task.caused_by_rules <> '{}'));
        end loop;
    end loop;
    if v_queues <> '{}' then
        perform pythonic.wake_workers(array(select distinct q.name from unnest(v_queues) as q (name)));
    end if;
    return null;
end
$$;
comment on function pythonic.tasks_added() is
    'Writes the people''s messages, records that tasks were asked, tells the pages, has rules act, and wakes the workers.';
drop trigger tasks_asked_recorded on public.tasks;
drop function pythonic.record_asked();

create or replace function pythonic.tasks_changed() returns trigger
language plpgsql security definer set search_path = ''
    -- The tables of a trigger have no statistics: a plan for one row must do for a thousand as well.
    set enable_nestloop = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_said record;
    v_queues text[] := '{}';
    v_ended bigint[] := '{}';
    v_users uuid[] := '{}';
    v_states text[] := '{}';
    v_cancel jsonb;
    v_rule public.event_rules;
    v_found record;
begin
    -- Most updates are heartbeats, and change nothing of this.
    for v_said in
        with seen as materialized (
            select n.id, n.user_id, n.thread_id, n.kind, n.queue, n.state, n.run_at, n.attempt, n.verdict,
                n.cancel_requested_at, n.failures, f.state as old_state, f.failures as old_failures,
                n.state is distinct from f.state as moved,
                case
                    when n.state = 'held' then n.held_because
                    when n.state = 'waiting' then n.waiting_for
                    when n.state = 'failed' or f.state = 'running' and n.state = 'scheduled' then n.error
                end as detail
            from changed n join former f on f.id = n.id
            where n.state is distinct from f.state or n.cancel_requested_at is distinct from f.cancel_requested_at
                or n.held_because is distinct from f.held_because
        ), recorded as (
            insert into public.task_changes (task_id, user_id, old_state, state, why, detail, attempt)
            select s.id, s.user_id, s.old_state, s.state,
                pythonic.why_changed(s.old_state, s.state, s.old_failures, s.failures, false),
                left(s.detail, 500), s.attempt
            from seen s where s.moved order by s.id
        )
        select s.user_id,
            jsonb_agg(jsonb_build_object(
                'task_id', s.id, 'thread_id', s.thread_id, 'kind', s.kind, 'state', s.state,
                'attempt', s.attempt, 'verdict', s.verdict, 'cancelling', s.cancel_requested_at is not null)
                order by s.id) as facts,
            -- One that is due before a worker looks again by itself must wake one, so that it sleeps less long.
            array_agg(distinct s.queue) filter (where s.state = 'queued'
                or s.state = 'scheduled' and s.run_at < now() + interval '1 minute') as queues,
            bool_or(s.state = 'running' and s.cancel_requested_at is not null) as cancelling,
            array_agg(distinct s.state) filter (where s.moved and s.kind = 'task') as states,
            array_agg(s.id) filter (where s.moved and s.state in ('succeeded', 'failed', 'cancelled')) as ended
        from seen s group by s.user_id
    loop
        perform pythonic.tell_person(v_said.user_id, v_said.facts);
        v_queues := v_queues || v_said.queues;
        v_ended := v_ended || v_said.ended;
        if v_said.states is not null then
            v_users := v_users || v_said.user_id;
            v_states := v_states || v_said.states;
        end if;
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
    if v_ended <> '{}' then
        perform pythonic.effects_follow_tasks(v_ended);
    end if;
    if v_users <> '{}' then
        for v_rule in
            select r.* from public.event_rules r where r.user_id = any (v_users) and r.enabled
                and (not r.pattern ? 'states' or r.pattern -> 'states' ?| v_states)
            order by r.created_at, r.id
        loop
            for v_found in select n::public.tasks as task, f.state as old_state,
                    pythonic.why_changed(f.state, n.state, f.failures, n.failures, false) as why
                from changed n join former f on f.id = n.id
                where n.state <> f.state and n.user_id = v_rule.user_id
                    and pythonic.rule_matches(v_rule, n::public.tasks)
                order by n.id loop
                perform pythonic.deliver_change(v_rule, v_found.task, v_found.old_state, v_found.why);
            end loop;
        end loop;
    end if;
    if v_queues <> '{}' then
        perform pythonic.wake_workers(array(select distinct q.name from unnest(v_queues) as q (name)));
    end if;
    return null;
end
$$;
comment on function pythonic.tasks_changed() is
    'Records changes of state, tells the pages, ends what was open, has rules act, and wakes the workers.';
drop trigger tasks_state_recorded on public.tasks;
drop function pythonic.record_changed();
drop trigger effects_follow_task on public.tasks;
drop function pythonic.effects_follow_task();

-- Since a later migration does the same for every removal.
drop trigger before_threads_go on public.threads;
drop function pythonic.before_threads_go();

-- ---------------------------------------------------------------------------------------------------------
-- Fewer statements
-- ---------------------------------------------------------------------------------------------------------

create or replace function pythonic.lock_admissions(p_users uuid[]) returns void
language plpgsql security definer set search_path = ''
as $$
declare
    v_user uuid;
begin
    if cardinality(p_users) = 1 then
        perform pg_catalog.pg_advisory_xact_lock(pythonic.admission_key(p_users[1]));
        return;
    end if;
    -- Sorted, because two that lock the same people in different order would wait for each other.
    for v_user in select distinct u.id from unnest(p_users) as u (id) order by u.id loop
        perform pg_catalog.pg_advisory_xact_lock(pythonic.admission_key(v_user));
    end loop;
end
$$;

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
        -- The order keeps this to the index of what is held, which is empty for most.
        for v_user in
            select u.id from unnest(v_users) as u (id) where (
                select true from public.tasks t where t.user_id = u.id and t.state = 'held'
                order by t.counted_assistant, t.priority desc, t.id limit 1)
        loop
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

create or replace function pythonic.claim(p_worker uuid, p_queue text, p_most integer, p_lease_seconds double precision, p_labels text[])
returns jsonb
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
    set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_ids bigint[] := pythonic.next_tasks(p_queue, coalesce(p_labels, '{}'), p_most);
    v_tasks jsonb;
    v_with_past bigint[];
    v_past jsonb;
    v_next double precision;
begin
    if v_ids <> '{}' then
        with claimed as (
            update public.tasks t set
                state = 'running', attempt = t.attempt + 1, worker_id = p_worker,
                lease_until = now() + make_interval(secs => p_lease_seconds),
                started_at = coalesce(t.started_at, now())
            where t.id = any (v_ids)
            returning t.*
        )
        select jsonb_agg(jsonb_build_object(
                'id', c.id, 'attempt', c.attempt, 'user_id', c.user_id, 'kind', c.kind, 'prompt', c.prompt,
                'thread_id', c.thread_id, 'lease_until', c.lease_until, 'labels', to_jsonb(c.labels),
                'model', coalesce(c.model, a.model), 'instructions', coalesce(a.instructions, ''),
                -- What any of the three allows, each host once.
                'hosts', case when c.hosts = '{}' and coalesce(th.hosts, '{}') = '{}' and coalesce(a.hosts, '{}') = '{}'
                    then '{}' else array(select distinct h.host from unnest(
                        c.hosts || coalesce(th.hosts, '{}') || coalesce(a.hosts, '{}')) as h (host) order by h.host)
                    end,
                'limits', coalesce(a.limits, '{}') || c.limits,
                'tools', coalesce(a.tools, pythonic.usual_tools()),
                'inputs', c.inputs, 'saved', '[]'::jsonb, 'sent', '[]'::jsonb, 'steps', '[]'::jsonb,
                'history', '[]'::jsonb
            ) || pythonic.claim_extra(c::public.tasks) order by c.priority desc, c.id),
            -- Most tasks are the first of their thread: looking for what there cannot be costs more than the claim.
            array_agg(c.id) filter (where c.attempt > 1
                or exists (select 1 from public.tasks e where e.thread_id = c.thread_id and e.id < c.id)
                or exists (select 1 from public.variables v where v.thread_id = c.thread_id))
        into v_tasks, v_with_past
        from claimed c
        left join public.threads th on th.id = c.thread_id
        left join public.assistants a on a.id = coalesce(c.assistant_id, th.assistant_id)
            and (a.user_id is null or a.user_id = c.user_id);
    end if;
    if v_with_past is not null then
        v_past := pythonic.past_of(v_with_past);
        v_tasks := (select jsonb_agg(c.task || coalesce(v_past -> (c.task ->> 'id'), '{}') order by c.place)
            from jsonb_array_elements(v_tasks) with ordinality as c (task, place));
    end if;

    -- Who takes all that it can take comes back when it has room again.
    if p_most < 1 or coalesce(jsonb_array_length(v_tasks), 0) < p_most then
        select extract(epoch from t.run_at - now()) into v_next
            from public.tasks t where t.queue = p_queue and t.state = 'scheduled' order by t.run_at limit 1;
    end if;
    return jsonb_build_object('tasks', coalesce(v_tasks, '[]'), 'next_due_seconds', v_next);
end
$$;

-- A first attempt that asked no model has nothing to sum.
drop trigger usage_summed on public.tasks;
create trigger usage_summed before update on public.tasks for each row
    when (old.state = 'running' and new.state <> 'running' and (new.state <> 'succeeded'
        or new.usage <> '{}' and (new.attempt > 1 or new.usage ->> 'turns' is distinct from '0')))
    execute function pythonic.sum_usage();

-- ---------------------------------------------------------------------------------------------------------
-- Who takes tasks takes them first
-- ---------------------------------------------------------------------------------------------------------

create or replace function pythonic.gone_workers(p_but uuid) returns uuid[]
language plpgsql stable security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_suspects uuid[];
begin
    -- A server that has just started has lost every lock: its workers have some seconds to come back. They try it
    -- every two.
    if pg_catalog.pg_postmaster_start_time() > now() - interval '5 seconds' then return '{}'; end if;
    -- Idle workers look every 5 s: a task is taken from a dead one within 8.
    select array_agg(w.id) into v_suspects from public.workers w
    where w.adapter = 'direct' and w.seen_at < now() - interval '3 seconds' and w.id is distinct from p_but
        and exists (select 1 from public.tasks t where t.worker_id = w.id and t.state = 'running');
    if v_suspects is null then return '{}'; end if;
    -- Looked up, not tried: a lock that is tried would be in the way of a worker that comes back.
    return array(
        select s.id from unnest(v_suspects) as s (id)
        where not exists (
            select 1 from pg_catalog.pg_locks l
            where l.locktype = 'advisory' and l.granted and l.objsubid = 1
                and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
                and (l.classid::bigint << 32) | l.objid::bigint = pythonic.worker_key(s.id)));
end
$$;
comment on function pythonic.gone_workers(uuid) is 'Direct workers but one that hold tasks, were last seen more than 3 s ago, and have lost their session lock.';

drop function pythonic.upkeep_now_and_then(uuid, text, jsonb);
create function pythonic.upkeep_now_and_then(p_worker uuid, p_queue text, p_held jsonb) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
    v_now bigint := extract(epoch from pg_catalog.clock_timestamp())::bigint;
begin
    if (select c.last_value from pythonic.upkeep_clock c) >= v_now then return false; end if;
    perform pg_catalog.setval('pythonic.upkeep_clock', v_now);
    perform pythonic.upkeep(p_worker, p_queue, p_held);
    return true;
end
$$;
comment on function pythonic.upkeep_now_and_then(uuid, text, jsonb) is
    'Upkeep once in a second of all workers: what is lost must not wait until somebody is idle. Says whether it was done.';
revoke all on function pythonic.forget_changes, pythonic.effects_follow_tasks, pythonic.upkeep_now_and_then from public;

create or replace function pythonic.cycle_tasks(
    p_worker uuid, p_queue text, p_limit integer, p_lease_seconds double precision, p_held jsonb, p_labels text[],
    p_ended jsonb)
returns jsonb
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    v_ids bigint[];
    v_finished jsonb;
    v_other jsonb;
    v_kept jsonb := '[]';
    v_claim jsonb;
    v_looked boolean;
    v_lapse double precision;
begin
    if p_ended <> '[]' then
        select jsonb_agg(e) filter (where e ->> 'how' = 'finish'), jsonb_agg(e) filter (where e ->> 'how' <> 'finish'),
            array_agg((e ->> 'id')::bigint)
        into v_finished, v_other, v_ids from jsonb_array_elements(p_ended) e;
    end if;
    if v_other is not null then
        perform pythonic.lock_admissions(array(select t.user_id from public.tasks t where t.id = any (v_ids)));
        perform 1 from public.tasks t where t.id = any (v_ids) and t.worker_id = p_worker order by t.id for no key update;
        select jsonb_agg(jsonb_build_object('id', o.ending -> 'id', 'attempt', o.ending -> 'attempt',
            'kept', pythonic.end_attempt(p_worker, o.ending)) order by o.place)
        into v_kept from jsonb_array_elements(v_other) with ordinality as o (ending, place);
    end if;
    if v_finished is not null then
        v_kept := pythonic.finish_many(p_worker, v_finished) || v_kept;
    end if;
    v_looked := pythonic.upkeep_now_and_then(p_worker, p_queue, p_held);
    v_claim := pythonic.claim(p_worker, p_queue, p_limit, p_lease_seconds, p_labels);
    if v_ids is null and v_claim -> 'tasks' = '[]' then
        -- Nothing to do: then there is time to look for what is lost or due.
        if not v_looked then
            perform pythonic.upkeep(p_worker, p_queue, p_held);
            v_claim := pythonic.claim(p_worker, p_queue, p_limit, p_lease_seconds, p_labels);
        end if;
        -- Who lives renews a lease long before its end, so this makes nobody look more often; where somebody has
        -- died, it is looked at once.
        select extract(epoch from min(t.lease_until) - now()) into v_lapse
            from public.tasks t where t.state = 'running' and t.lease_until > now();
        if v_lapse is not null and v_claim -> 'tasks' = '[]' then
            v_claim := v_claim || jsonb_build_object('next_due_seconds',
                least((v_claim ->> 'next_due_seconds')::double precision, v_lapse + 0.02));
        end if;
    end if;
    return v_claim || jsonb_build_object('ended', v_kept);
end
$$;
