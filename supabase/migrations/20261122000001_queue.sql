-- The queue's core: labels, limits of assistants, waiting, cycles, workers. What was one row at a time is one
-- statement for all rows, and every plan keeps to its index whatever the statistics say.
--
-- One order of locks everywhere, so that nothing deadlocks: the admission locks of people (sorted), then task rows
-- (by id), then thread rows (by id). Upkeep, which deals with tasks of anybody, never waits for one of them.

-- ---------------------------------------------------------------------------------------------------------
-- Labels, limits, reasons
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.labels_problem(p_labels text[]) returns text
language plpgsql immutable set search_path = ''
as $$
declare
    v_label text;
begin
    if p_labels is null or coalesce(array_ndims(p_labels), 1) <> 1 then
        return 'Write the labels as a list of names, such as {gpu}.';
    end if;
    if cardinality(p_labels) > 8 then
        return format('%s labels are too many: at most 8 can be named.', cardinality(p_labels));
    end if;
    foreach v_label in array p_labels loop
        if v_label is null or v_label !~ '^[a-z0-9][a-z0-9._-]{0,49}$' then
            return format('The label %s is no name of a label: write it like office-network, with at most 50 of a-z, 0-9, . _ -.',
                coalesce(quote_literal(left(v_label, 100)), 'null'));
        end if;
    end loop;
    return null;
end
$$;
comment on function pythonic.labels_problem(text[]) is 'Why these are no labels of a task or a worker, or null.';

create function pythonic.tidy_labels(p_labels text[]) returns text[]
language sql immutable set search_path = ''
as $$
    select coalesce(array_agg(distinct lower(btrim(l.label)) order by lower(btrim(l.label))), '{}')
    from unnest(p_labels) as l (label)
$$;
comment on function pythonic.tidy_labels(text[]) is 'Lower case, no blanks around, sorted, each once: equal sets are equal arrays.';

alter table public.tasks
    add column labels text[] not null default '{}',
    add column held_because text,
    add column waiting_for text check (char_length(waiting_for) between 1 and 2000),
    add column resume_attempt integer,
    add column counted_assistant uuid not null default '00000000-0000-0000-0000-000000000000';
comment on column public.tasks.labels is 'A worker takes it only if it has all of these labels, such as {gpu}.';
comment on column public.tasks.held_because is 'While it is held: why, in a sentence.';
comment on column public.tasks.waiting_for is 'While it is waiting: for what, in words.';
comment on column public.tasks.resume_attempt is 'The attempt that shall not wait, because what it is about to wait for has come already.';
comment on column public.tasks.counted_assistant is 'The assistant in whose active_limit it counts: its own or else that of the thread when it was asked; zeros for none.';

alter table public.assistants
    add column active_limit integer check (active_limit between 1 and 1000);
comment on column public.assistants.active_limit is 'How many of its tasks of one person may be queued or running at once; null for no limit of its own.';
grant insert (active_limit), update (active_limit) on public.assistants to authenticated;
grant insert (labels) on public.tasks to authenticated;

update public.tasks t set counted_assistant = c.assistant
    from (select l.id, coalesce(l.assistant_id, th.assistant_id) as assistant
          from public.tasks l left join public.threads th on th.id = l.thread_id
          where l.state not in ('succeeded', 'failed', 'cancelled')) c
    where c.id = t.id and c.assistant is not null;
update public.tasks set held_because = 'Other tasks of yours are active; this one starts when one ends.'
    where state = 'held';
alter table public.tasks
    add constraint tasks_labels check (labels = '{}' or pythonic.labels_problem(labels) is null),
    add constraint held_has_a_reason check ((state = 'held') = (held_because is not null)),
    add constraint only_waiting_waits_for check (state = 'waiting' or waiting_for is null);

-- ---------------------------------------------------------------------------------------------------------
-- Indexes and storage
-- ---------------------------------------------------------------------------------------------------------

-- By labels first: a claim goes from one set of labels to the next and never meets a task that it may not take.
drop index public.tasks_claim;
create index tasks_claim on public.tasks (queue, labels, priority desc, id) where state = 'queued';
drop index public.tasks_active_of_user;
create index tasks_active_of_user on public.tasks (user_id, counted_assistant) where state in ('queued', 'running');
drop index public.tasks_held_of_user;
create index tasks_held_of_user on public.tasks (user_id, counted_assistant, priority desc, id) where state = 'held';
-- A task without a dedupe_key cannot be asked twice: it need not be in this index, which every start of a task
-- had to write.
drop index public.tasks_dedupe;
create unique index tasks_dedupe on public.tasks (user_id, dedupe_key)
    where dedupe_key is not null and state in ('scheduled', 'held', 'queued', 'running', 'waiting');
-- What belongs to a thread or a task goes with it. A second key, to the person, only locked the person's row at every
-- message and event, which all tasks of the person write at the same time.
alter table public.messages drop constraint messages_user_id_fkey;
alter table public.task_events drop constraint task_events_user_id_fkey;
alter table public.task_steps drop constraint task_steps_user_id_fkey;
alter table public.artifacts drop constraint artifacts_user_id_fkey;
-- Without it, removing a task reads all messages.
create index messages_of_task on public.messages (task_id);
-- Without them, removing an assistant reads both tables whole.
create index tasks_of_assistant on public.tasks (assistant_id) where assistant_id is not null;
create index threads_of_assistant on public.threads (assistant_id) where assistant_id is not null;

-- A share of the table as threshold would let a long history starve the queue of vacuum: fixed numbers instead.
alter table public.tasks set (
    autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 20000, autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_analyze_threshold = 5000, autovacuum_analyze_scale_factor = 0);
alter table public.threads set (
    fillfactor = 85, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0,
    autovacuum_analyze_threshold = 10000, autovacuum_analyze_scale_factor = 0);
alter table public.task_steps set (
    fillfactor = 80, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0,
    autovacuum_analyze_threshold = 20000, autovacuum_analyze_scale_factor = 0);
alter table public.messages set (
    autovacuum_vacuum_insert_threshold = 50000, autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_analyze_threshold = 50000, autovacuum_analyze_scale_factor = 0);
alter table public.task_events set (
    autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0);

-- A transaction that is forgotten open keeps every dead row of the queue alive.
do $$
begin
    execute format('alter database %I set idle_in_transaction_session_timeout = %L', current_database(), '10min');
exception when insufficient_privilege then
    raise notice 'idle_in_transaction_session_timeout stays as it is: only the owner of the database may set it.';
end
$$;

-- ---------------------------------------------------------------------------------------------------------
-- Hooks, replaced by later migrations
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.claim_extra(p_task public.tasks) returns jsonb
    language sql stable set search_path = '' as $$ select '{}'::jsonb $$;
comment on function pythonic.claim_extra(public.tasks) is 'What a claimed task is given beside what the core gives.';

create function pythonic.durable_kinds() returns text[]
    language sql immutable set search_path = ''
    as $$ select '{plan_made,step_finished,egress_begun,run_succeeded,run_failed}'::text[] $$;
comment on function pythonic.durable_kinds() is 'Events that must be on the disk before append_events answers.';

create function pythonic.admission_problem(p_user uuid) returns text
    language sql stable set search_path = '' as $$ select null::text $$;
comment on function pythonic.admission_problem(uuid) is 'A sentence why no task of this person may start now, or null.';

-- ---------------------------------------------------------------------------------------------------------
-- Telling people and workers
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.wake_workers(p_queues text[]) returns void
language plpgsql security definer set search_path = ''
as $$
declare
    v_queue text;
begin
    foreach v_queue in array p_queues loop
        perform pythonic.tell('queue', 'queued', jsonb_build_object('queue', v_queue));
        -- Every commit that notifies holds one lock of the whole server while it flushes. While another commit is
        -- about to wake the workers, this one need not: a worker looks again shortly after it was woken. There are
        -- four places, so that one transaction that stays open does not silence all others.
        if pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(
            'pythonic.notify:' || v_queue, floor(random() * 4)::bigint)) then
            perform pg_catalog.pg_notify('pythonic_queue',
                jsonb_build_object('event', 'queued', 'queue', v_queue)::text);
        end if;
    end loop;
end
$$;
comment on function pythonic.wake_workers(text[]) is 'Tells workers that these queues have something for them, or will have soon.';

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

create function pythonic.tasks_added() returns trigger
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
comment on function pythonic.tasks_added() is 'Writes the people''s messages, tells the pages, and wakes the workers.';

create function pythonic.tasks_changed() returns trigger
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
comment on function pythonic.tasks_changed() is 'Tells the pages, and wakes the workers.';

drop trigger task_inserted on public.tasks;
drop trigger task_updated on public.tasks;
drop function pythonic.task_changed();
create trigger tasks_added after insert on public.tasks
    referencing new table as added for each statement execute function pythonic.tasks_added();
create trigger tasks_changed after update on public.tasks
    referencing old table as former new table as changed for each statement execute function pythonic.tasks_changed();

-- ---------------------------------------------------------------------------------------------------------
-- Admission
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.admission_key(p_user uuid) returns bigint
    language sql immutable set search_path = ''
    as $$ select pg_catalog.hashtextextended('pythonic.admission:' || p_user::text, 0) $$;
comment on function pythonic.admission_key(uuid) is 'The advisory lock of whoever changes how many tasks of a person are active.';

create function pythonic.lock_admissions(p_users uuid[]) returns void
language plpgsql security definer set search_path = ''
as $$
declare
    v_user uuid;
begin
    -- Sorted, because two that lock the same people in different order would wait for each other.
    for v_user in select distinct u.id from unnest(p_users) as u (id) order by u.id loop
        perform pg_catalog.pg_advisory_xact_lock(pythonic.admission_key(v_user));
    end loop;
end
$$;
comment on function pythonic.lock_admissions(uuid[]) is 'One admission per person at a time: counts are read from the index, so there is no counter to drift.';

create function pythonic.lock_admission_of(p_task bigint) returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
    v_user uuid;
begin
    select t.user_id into v_user from public.tasks t where t.id = p_task;
    if found then
        perform pg_catalog.pg_advisory_xact_lock(pythonic.admission_key(v_user));
    end if;
    return v_user;
end
$$;
comment on function pythonic.lock_admission_of(bigint) is 'Takes the admission lock of the person whose task it is. Returns the person.';

create function pythonic.try_admission(p_user uuid) returns boolean
    language sql security definer set search_path = ''
    as $$ select pg_catalog.pg_try_advisory_xact_lock(pythonic.admission_key(p_user)) $$;
comment on function pythonic.try_admission(uuid) is 'The admission lock of a person, unless somebody has it.';

create function pythonic.enough_active(p_active bigint, p_of_assistant boolean) returns text
language sql immutable set search_path = ''
as $$
    select case
        when p_of_assistant and p_active = 1 then '1 task of this assistant is active; this one starts when it ends.'
        when p_of_assistant then p_active || ' tasks of this assistant are active; this one starts when one ends.'
        when p_active = 1 then '1 of your tasks is active; this one starts when it ends.'
        else p_active || ' of your tasks are active; this one starts when one ends.'
    end
$$;
comment on function pythonic.enough_active(bigint, boolean) is 'The sentence for a task that is held because so many are active.';

create function pythonic.hold_reason(p_user uuid, p_assistant uuid) returns text
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
as $$
declare
    v_limit integer;
    v_active bigint;
begin
    perform pg_catalog.pg_advisory_xact_lock(pythonic.admission_key(p_user));
    select p.active_limit into v_limit from public.profiles p where p.id = p_user;
    select count(*) into v_active from public.tasks t
        where t.user_id = p_user and t.state in ('queued', 'running');
    if v_active >= coalesce(v_limit, 5) then return pythonic.enough_active(v_active, false); end if;
    select a.active_limit into v_limit from public.assistants a where a.id = p_assistant;
    if v_limit is not null then
        select count(*) into v_active from public.tasks t
            where t.user_id = p_user and t.counted_assistant = p_assistant and t.state in ('queued', 'running');
        if v_active >= v_limit then return pythonic.enough_active(v_active, true); end if;
    end if;
    return pythonic.admission_problem(p_user);
end
$$;
comment on function pythonic.hold_reason(uuid, uuid) is 'Why one more task of this person and assistant must be held now, or null: it may be queued.';

create or replace function pythonic.admit_task() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    v_people uuid[];
    v_file jsonb;
    v_of_thread uuid;
    v_problem text;
begin
    if new.user_id is null then
        select array_agg(p.id) into v_people from (select id from public.profiles limit 2) p;
        if coalesce(array_length(v_people, 1), 0) <> 1 then
            raise exception 'Set user_id: there is not exactly one person whose task this could be.'
                using errcode = 'not_null_violation';
        end if;
        new.user_id := v_people[1];
    end if;
    if new.prompt is null or btrim(new.prompt) = '' then
        raise exception 'The prompt is empty: write what should be done.' using errcode = 'invalid_parameter_value';
    end if;
    if char_length(new.prompt) > 20000 then
        raise exception 'The prompt has % characters; at most 20,000 are allowed. Put long material into a file.',
            char_length(new.prompt) using errcode = 'invalid_parameter_value';
    end if;
    if new.thread_id is not null then
        select th.assistant_id into v_of_thread
            from public.threads th where th.id = new.thread_id and th.user_id = new.user_id;
        if not found then
            raise exception 'This thread does not exist or belongs to somebody else.'
                using errcode = 'insufficient_privilege';
        end if;
    end if;
    if new.assistant_id is not null and not exists (
        select 1 from public.assistants a
        where a.id = new.assistant_id and (a.user_id is null or a.user_id = new.user_id)
    ) then
        raise exception 'This assistant does not exist or belongs to somebody else.'
            using errcode = 'insufficient_privilege';
    end if;
    new.counted_assistant := coalesce(new.assistant_id, v_of_thread, '00000000-0000-0000-0000-000000000000');
    new.inputs := coalesce(new.inputs, '[]');
    if new.inputs <> '[]' then
        for v_file in select * from jsonb_array_elements(new.inputs) loop
            -- The worker reads files with a key that may read everything, so the owner is checked here.
            if jsonb_typeof(v_file) <> 'object'
                or coalesce(v_file ->> 'name', '') = ''
                or coalesce(v_file ->> 'storage_path', '') not like new.user_id::text || '/%'
                or char_length(v_file ->> 'storage_path') > 1000
                or (v_file ->> 'storage_path') ~ '[.][.]|%|[[:cntrl:]]|\\' then
                raise exception 'Each of inputs needs a name and a storage_path that begins with the person''s id.'
                    using errcode = 'invalid_parameter_value';
            end if;
        end loop;
        -- Of what was given, only this much is kept, in these types: workers rely on it.
        select coalesce(jsonb_agg(jsonb_build_object(
                'name', left(f.file ->> 'name', 500),
                'storage_path', f.file ->> 'storage_path',
                'media_type', left(coalesce(f.file ->> 'media_type', 'application/octet-stream'), 200),
                'bytes', case when jsonb_typeof(f.file -> 'bytes') = 'number'
                    then greatest(0, floor((f.file ->> 'bytes')::numeric))::bigint else 0 end
            ) order by f.place), '[]')
        into new.inputs
        from jsonb_array_elements(new.inputs) with ordinality as f (file, place);
    end if;
    new.labels := coalesce(new.labels, '{}');
    if new.labels <> '{}' then
        new.labels := pythonic.tidy_labels(new.labels);
        v_problem := pythonic.labels_problem(new.labels);
        if v_problem is not null then
            raise exception '%', v_problem using errcode = 'invalid_parameter_value';
        end if;
    end if;

    if auth.uid() is not null then
        new.priority := greatest(least(coalesce(new.priority, 0), 10), -10);
    end if;
    new.run_at := coalesce(new.run_at, now());
    new.attempt := 0;
    new.asked_attempt := 0;
    new.failures := 0;
    if new.kind = 'probe' then
        new.max_failures := 1;  -- somebody waits for the word
    end if;
    new.worker_id := null;
    new.lease_until := null;
    new.cancel_requested_at := null;
    new.resume_attempt := null;
    new.waiting_for := null;
    new.started_at := null;
    new.finished_at := null;
    new.answer := null;
    new.verdict := null;
    new.evidence := '[]';
    new.error := null;
    new.usage := '{}';
    new.model_used := null;
    new.sandbox_tier := null;
    new.created_at := now();
    new.held_because := null;
    if new.run_at > now() then
        new.state := 'scheduled';
    else
        new.held_because := pythonic.hold_reason(new.user_id, new.counted_assistant);
        new.state := case when new.held_because is null then 'queued' else 'held' end;
    end if;
    if new.thread_id is null and new.kind = 'task' then
        insert into public.threads (user_id, assistant_id, title)
        values (new.user_id, new.assistant_id, left(btrim(regexp_replace(new.prompt, '\s+', ' ', 'g')), 80))
        returning id into new.thread_id;
    end if;
    return new;
end
$$;

create function pythonic.next_held(p_user uuid, p_most bigint) returns bigint[]
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
    set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_ids bigint[];
begin
    -- From one assistant to the next, so that a crowd that waits for one assistant hides no task of another.
    with recursive assistants (id) as (
        (select t.counted_assistant from public.tasks t where t.user_id = p_user and t.state = 'held'
            order by t.counted_assistant limit 1)
        union all
        select (select t.counted_assistant from public.tasks t
                where t.user_id = p_user and t.state = 'held' and t.counted_assistant > s.id
                order by t.counted_assistant limit 1)
        from assistants s where s.id is not null
    ), room as (
        select s.id, least(p_most, a.active_limit - (
            select count(*) from public.tasks t
            where t.user_id = p_user and t.counted_assistant = s.id and t.state in ('queued', 'running')
                and a.active_limit is not null)) as most
        from assistants s left join public.assistants a on a.id = s.id
        where s.id is not null
    )
    select array_agg(b.id) into v_ids from (
        select h.id from room r cross join lateral (
            select t.id, t.priority from public.tasks t
            where t.user_id = p_user and t.state = 'held' and t.counted_assistant = r.id
            order by t.priority desc, t.id limit greatest(r.most, 0)) h
        order by h.priority desc, h.id limit p_most) b;
    return coalesce(v_ids, '{}');
end
$$;
comment on function pythonic.next_held(uuid, bigint) is 'The held tasks of a person that start next, no more of an assistant than it may have.';

create or replace function pythonic.promote_held(p_user uuid) returns void
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
as $$
declare
    v_active bigint;
    v_limit integer;
    v_next bigint[];
    v_why text;
    v_said text;
begin
    perform pg_catalog.pg_advisory_xact_lock(pythonic.admission_key(p_user));
    if not exists (select 1 from public.tasks t where t.user_id = p_user and t.state = 'held') then return; end if;
    select coalesce(p.active_limit, 5) into v_limit from public.profiles p where p.id = p_user;
    select count(*) into v_active from public.tasks t where t.user_id = p_user and t.state in ('queued', 'running');
    v_why := pythonic.admission_problem(p_user);
    if v_why is null and v_active < v_limit then
        v_next := pythonic.next_held(p_user, v_limit - v_active);
        update public.tasks t set state = 'queued', held_because = null
        where t.id = any (array(
            select h.id from public.tasks h where h.id = any (v_next) and h.state = 'held'
            order by h.id for update skip locked));
        select count(*) into v_active from public.tasks t
            where t.user_id = p_user and t.state in ('queued', 'running');
    end if;
    if v_why is null and v_active >= v_limit then v_why := pythonic.enough_active(v_active, false); end if;
    -- What is held now for another reason than it says; a hundred are more than anybody reads.
    select t.held_because into v_said from public.tasks t
        where t.user_id = p_user and t.state = 'held' order by t.counted_assistant, t.priority desc, t.id limit 1;
    if v_said is null or v_said = v_why then return; end if;
    update public.tasks t set held_because = n.why
    from (
        select h.id, coalesce(v_why, pythonic.enough_active(a.active_limit, true)) as why
        from (select s.id, s.counted_assistant, s.held_because from public.tasks s
              where s.user_id = p_user and s.state = 'held'
              order by s.counted_assistant, s.priority desc, s.id limit 100 for update skip locked) h
        left join public.assistants a on a.id = h.counted_assistant) n
    where t.id = n.id and n.why is not null and t.held_because <> n.why;
end
$$;
comment on function pythonic.promote_held(uuid) is 'Queues held tasks of a person while there is room, and says of the next ones why they are still held.';

create function pythonic.admit_due(p_user uuid, p_ids bigint[]) returns void
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
as $$
declare
    v_active bigint;
    v_limit integer;
    v_problem text := pythonic.admission_problem(p_user);
begin
    select coalesce(p.active_limit, 5) into v_limit from public.profiles p where p.id = p_user;
    select count(*) into v_active from public.tasks t where t.user_id = p_user and t.state in ('queued', 'running');
    with due as materialized (
        select t.id, t.priority, t.counted_assistant from public.tasks t
        where t.id = any (p_ids) and t.state = 'scheduled' and t.run_at <= now()
        order by t.id for update skip locked
    ), room as materialized (
        select a.id, a.active_limit, (
            select count(*) from public.tasks t
            where t.user_id = p_user and t.counted_assistant = a.id and t.state in ('queued', 'running')) as active
        from public.assistants a
        where a.active_limit is not null and a.id in (select d.counted_assistant from due d)
    ), fitting as (
        select d.id, d.priority, r.active_limit,
            r.id is null or r.active + row_number() over (
                partition by d.counted_assistant order by d.priority desc, d.id) <= r.active_limit as fits
        from due d left join room r on r.id = d.counted_assistant
    ), judged as (
        select f.id, case
            when not f.fits then pythonic.enough_active(f.active_limit, true)
            when v_active + row_number() over (partition by f.fits order by f.priority desc, f.id) > v_limit
                then pythonic.enough_active(greatest(v_limit, v_active), false)
            else v_problem
        end as why
        from fitting f
    )
    update public.tasks t set
        state = case when j.why is null then 'queued' else 'held' end, held_because = j.why
    from judged j where t.id = j.id and t.id = any (p_ids);
end
$$;
comment on function pythonic.admit_due(uuid, bigint[]) is 'Queues or holds scheduled tasks of a person that are due. The caller has the person''s admission lock.';

drop function pythonic.state_on_admission(uuid);

drop trigger room_made on public.tasks;
drop trigger room_made on public.profiles;
create or replace function pythonic.room_made() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    v_user uuid;
begin
    if tg_table_name = 'profiles' then
        perform pythonic.promote_held(new.id);
    elsif tg_table_name = 'assistants' then
        perform pythonic.promote_held(new.user_id);
    else
        for v_user in
            select distinct g.user_id from gone g join public.profiles p on p.id = g.user_id
            where g.state in ('queued', 'running') order by 1
        loop
            perform pythonic.promote_held(v_user);
        end loop;
    end if;
    return null;
end
$$;
comment on function pythonic.room_made() is 'Lets held tasks go on when active ones are deleted with their thread, or when a limit is raised.';
create trigger room_made after delete on public.tasks
    referencing old table as gone for each statement execute function pythonic.room_made();
create trigger room_made after update of active_limit on public.profiles
    for each row when (new.active_limit > old.active_limit) execute function pythonic.room_made();
-- Of a built-in assistant, whose limit is that of many people, whoever does upkeep takes care.
create trigger room_made after update of active_limit on public.assistants
    for each row when (new.user_id is not null and new.active_limit is distinct from old.active_limit)
    execute function pythonic.room_made();

create function pythonic.before_threads_go() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    -- A delete locks the thread before its tasks, a finish the task before its thread: the admission comes first.
    if auth.uid() is not null then
        perform pg_catalog.pg_advisory_xact_lock(pythonic.admission_key(auth.uid()));
    end if;
    return null;
end
$$;
comment on function pythonic.before_threads_go() is 'Keeps the order of locks when a person deletes threads.';
create trigger before_threads_go before delete on public.threads
    for each statement execute function pythonic.before_threads_go();

-- ---------------------------------------------------------------------------------------------------------
-- For people: enqueue, cancel, retry
-- ---------------------------------------------------------------------------------------------------------

-- Dropped, not overloaded: PostgREST cannot choose between two functions of one name whose arguments have defaults.
drop function public.enqueue_task(text, uuid, uuid, jsonb, text, text, smallint, timestamptz, text, text[], jsonb);
create function public.enqueue_task(
    prompt text,
    thread_id uuid default null,
    assistant_id uuid default null,
    inputs jsonb default '[]',
    model text default null,
    kind text default 'task',
    priority smallint default 0,
    run_at timestamptz default null,
    dedupe_key text default null,
    hosts text[] default '{}',
    limits jsonb default '{}',
    labels text[] default '{}'
) returns public.tasks
language plpgsql security invoker set search_path = ''
as $$
#variable_conflict use_column
declare
    v_task public.tasks;
begin
    if enqueue_task.dedupe_key is not null then
        select t.* into v_task from public.tasks t
            where t.user_id = auth.uid() and t.dedupe_key = enqueue_task.dedupe_key
            order by t.id desc limit 1;
        if found then return v_task; end if;
    end if;
    begin
        insert into public.tasks (prompt, thread_id, assistant_id, inputs, model, kind, priority, run_at, dedupe_key,
            hosts, limits, labels)
        values (enqueue_task.prompt, enqueue_task.thread_id, enqueue_task.assistant_id, enqueue_task.inputs,
            enqueue_task.model, enqueue_task.kind, enqueue_task.priority,
            coalesce(enqueue_task.run_at, now()), enqueue_task.dedupe_key,
            coalesce(enqueue_task.hosts, '{}'), coalesce(enqueue_task.limits, '{}'),
            coalesce(enqueue_task.labels, '{}'))
        returning * into v_task;
    exception when unique_violation then
        select t.* into strict v_task from public.tasks t
            where t.user_id = auth.uid() and t.dedupe_key = enqueue_task.dedupe_key
            order by t.id desc limit 1;
    end;
    return v_task;
end
$$;
comment on function public.enqueue_task is 'Asks a task and returns its row; with a dedupe_key that was used before, the row that is there.';

create function pythonic.task_of_caller(p_task bigint) returns public.tasks
language plpgsql security definer set search_path = ''
as $$
declare
    v_task public.tasks;
begin
    if exists (select 1 from public.tasks t
        where t.id = p_task and (auth.uid() is null or t.user_id = auth.uid())) then
        perform pythonic.lock_admission_of(p_task);
        select * into v_task from public.tasks t where t.id = p_task for update;
    end if;
    if v_task.id is null then
        raise exception 'There is no task % of yours.', p_task using errcode = 'insufficient_privilege';
    end if;
    return v_task;
end
$$;
comment on function pythonic.task_of_caller(bigint) is 'A task that the caller may change, locked.';

create or replace function pythonic.cancel_task(p_task bigint) returns text
language plpgsql security definer set search_path = ''
as $$
declare
    v_task public.tasks := pythonic.task_of_caller(p_task);
begin
    if v_task.state in ('succeeded', 'failed', 'cancelled') then return v_task.state; end if;
    if v_task.state = 'running' then
        update public.tasks set cancel_requested_at = coalesce(cancel_requested_at, now()) where id = p_task;
        return 'cancelling';
    end if;
    update public.tasks set state = 'cancelled', finished_at = now(), cancel_requested_at = now(),
        held_because = null, waiting_for = null where id = p_task;
    perform pythonic.promote_held(v_task.user_id);
    return 'cancelled';
end
$$;

create or replace function pythonic.retry_task(p_task bigint, p_from_start boolean) returns text
language plpgsql security definer set search_path = ''
as $$
declare
    v_task public.tasks := pythonic.task_of_caller(p_task);
    v_why text;
begin
    if v_task.state not in ('succeeded', 'failed', 'cancelled') then
        raise exception 'Task % is %, so there is nothing to retry yet.', p_task, v_task.state
            using errcode = 'invalid_parameter_value';
    end if;
    -- What belongs to the answer that is given up goes with it.
    delete from public.artifacts a where a.task_id = p_task;
    delete from public.messages m where m.task_id = p_task and m.role = 'assistant';
    if p_from_start or v_task.state = 'succeeded' then
        delete from public.task_steps s where s.task_id = p_task;
    else
        update public.task_steps s set state = 'pending', error = null, finished_at = null
            where s.task_id = p_task and s.state <> 'succeeded';
    end if;
    v_why := pythonic.hold_reason(v_task.user_id, v_task.counted_assistant);
    update public.tasks set
        state = case when v_why is null then 'queued' else 'held' end, held_because = v_why,
        failures = 0, run_at = now(), started_at = null, finished_at = null, asked_attempt = attempt,
        resume_attempt = null,
        cancel_requested_at = null, answer = null, verdict = null, evidence = '[]', error = null
    where id = p_task
    returning state into v_task.state;
    return v_task.state;
end
$$;

create function pythonic.resume_task(p_task bigint, p_again boolean default false) returns text
language plpgsql security definer set search_path = ''
as $$
declare
    v_task public.tasks;
    v_why text;
begin
    perform pythonic.lock_admission_of(p_task);
    select * into v_task from public.tasks t where t.id = p_task for update;
    if v_task.state = 'running' then
        -- The word came before the attempt began to wait for it.
        update public.tasks set resume_attempt = attempt where id = p_task;
    elsif v_task.state = 'waiting' then
        v_why := pythonic.hold_reason(v_task.user_id, v_task.counted_assistant);
        update public.tasks set
            state = case when v_why is null then 'queued' else 'held' end, held_because = v_why, waiting_for = null,
            asked_attempt = case when p_again then attempt else asked_attempt end
        where id = p_task
        returning state into v_task.state;
    end if;
    return v_task.state;
end
$$;
comment on function pythonic.resume_task(bigint, boolean) is
    'Lets a task that waits go on, through admission; one that is about to wait will not. With p_again, what earlier attempts sent counts no more. Returns the state; null for no task.';

-- ---------------------------------------------------------------------------------------------------------
-- Workers
-- ---------------------------------------------------------------------------------------------------------

create table public.workers (
    id uuid primary key,
    host text not null default '' check (char_length(host) <= 300),
    version text not null default '' check (char_length(version) <= 100),
    labels text[] not null default '{}' check (labels = '{}' or pythonic.labels_problem(labels) is null),
    slots integer not null default 0 check (slots between 0 and 100000),
    adapter text not null default 'api' check (adapter in ('direct', 'api')),
    sandbox text check (char_length(sandbox) <= 200),
    model text check (char_length(model) <= 200),
    running integer not null default 0 check (running >= 0),
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now(),
    stopped_at timestamptz
) with (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
comment on table public.workers is 'Workers, as they last told of themselves. Gone after thirty days of silence.';
comment on column public.workers.id is 'Identifier; tasks.worker_id of what it holds.';
comment on column public.workers.host is 'The machine it runs on.';
comment on column public.workers.version is 'Its version.';
comment on column public.workers.labels is 'It takes tasks whose labels are all among these.';
comment on column public.workers.slots is 'How many tasks it runs at once.';
comment on column public.workers.adapter is 'direct: speaks to PostgreSQL, and a session lock is its sign of life; api: speaks to Supabase''s API.';
comment on column public.workers.sandbox is 'What isolates the code of its tasks.';
comment on column public.workers.model is 'The model that it is configured with.';
comment on column public.workers.running is 'How many tasks it ran when it last told.';
comment on column public.workers.started_at is 'When its process started.';
comment on column public.workers.seen_at is 'When it last gave a sign of life.';
comment on column public.workers.stopped_at is 'When it stopped, if it said so.';
alter table public.workers enable row level security;
revoke all on public.workers from anon, authenticated, service_role;
grant select on public.workers to authenticated, service_role;
create policy "everyone who is signed in sees the workers" on public.workers
    for select to authenticated using (true);

create function pythonic.worker_seen(p_worker uuid, p_facts jsonb) returns void
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_labels text[] := pythonic.tidy_labels(array(
        select jsonb_array_elements_text(coalesce(nullif(p_facts -> 'labels', 'null'), '[]'))));
begin
    perform set_config('synchronous_commit', 'off', true);  -- the next sign of life follows
    insert into public.workers as w
        (id, host, version, labels, slots, adapter, sandbox, model, running, started_at, seen_at, stopped_at)
    values (p_worker, coalesce(p_facts ->> 'host', ''), coalesce(p_facts ->> 'version', ''), v_labels,
        coalesce((p_facts ->> 'slots')::integer, 0), coalesce(p_facts ->> 'adapter', 'api'),
        p_facts ->> 'sandbox', p_facts ->> 'model', coalesce((p_facts ->> 'running')::integer, 0),
        coalesce((p_facts ->> 'started_at')::timestamptz, now()), now(),
        case when (p_facts -> 'stopped')::boolean then now() end)
    -- A fact that is not named stays as it was.
    on conflict (id) do update set
        host = coalesce(p_facts ->> 'host', w.host), version = coalesce(p_facts ->> 'version', w.version),
        labels = case when p_facts ? 'labels' then v_labels else w.labels end,
        slots = coalesce((p_facts ->> 'slots')::integer, w.slots), adapter = coalesce(p_facts ->> 'adapter', w.adapter),
        sandbox = coalesce(p_facts ->> 'sandbox', w.sandbox), model = coalesce(p_facts ->> 'model', w.model),
        running = coalesce((p_facts ->> 'running')::integer, w.running),
        started_at = coalesce((p_facts ->> 'started_at')::timestamptz, w.started_at),
        seen_at = now(), stopped_at = case when (p_facts -> 'stopped')::boolean then now() end;
    delete from public.workers w where w.seen_at < now() - interval '30 days';
end
$$;
comment on function pythonic.worker_seen(uuid, jsonb) is
    'Notes a worker''s facts, by the names of the columns of workers; {"stopped": true} when it stops.';

create function pythonic.worker_key(p_worker uuid) returns bigint
    language sql immutable set search_path = ''
    as $$ select pg_catalog.hashtextextended('pythonic.worker:' || p_worker::text, 0) $$;
comment on function pythonic.worker_key(uuid) is 'The advisory lock that a direct worker holds in a session as long as it lives.';

create function pythonic.gone_workers(p_but uuid) returns uuid[]
language plpgsql stable security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_suspects uuid[];
begin
    -- A server that has just started has lost every lock: its workers have some seconds to come back.
    if pg_catalog.pg_postmaster_start_time() > now() - interval '15 seconds' then return '{}'; end if;
    select array_agg(w.id) into v_suspects from public.workers w
    where w.adapter = 'direct' and w.seen_at < now() - interval '5 seconds' and w.id is distinct from p_but
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
comment on function pythonic.gone_workers(uuid) is 'Direct workers but one that hold tasks, were last seen more than 5 s ago, and have lost their session lock.';

-- ---------------------------------------------------------------------------------------------------------
-- Upkeep: what is lost, due, or held for a reason that is gone
-- ---------------------------------------------------------------------------------------------------------

drop function pythonic.take_back(bigint);
create function pythonic.take_back(p_ids bigint[]) returns integer
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
as $$
declare
    v_ended bigint[];
    v_users uuid[];
    v_user uuid;
    v_count integer;
begin
    with back as (
        update public.tasks t set
            state = case
                when t.cancel_requested_at is not null then 'cancelled'
                when t.failures + 1 >= t.max_failures then 'failed'
                else 'queued'
            end,
            failures = t.failures + 1, worker_id = null, lease_until = null,
            finished_at = case
                when t.cancel_requested_at is not null or t.failures + 1 >= t.max_failures then now()
            end,
            error = case when t.cancel_requested_at is null and t.failures + 1 >= t.max_failures then format(
                'The worker that ran this task was lost, and %s attempts have failed by now. Retry it, or look into the worker''s log.',
                t.failures + 1) else t.error end
        where t.id = any (p_ids) and t.worker_id is not null
        returning t.id, t.user_id, t.state
    )
    select count(*), array_agg(b.id) filter (where b.state <> 'queued'),
        array_agg(distinct b.user_id) filter (where b.state <> 'queued')
    into v_count, v_ended, v_users from back b;
    if v_ended is not null then
        update public.task_steps s set state = 'pending' where s.task_id = any (v_ended) and s.state = 'running';
        foreach v_user in array v_users loop
            perform pythonic.promote_held(v_user);
        end loop;
    end if;
    return v_count;
end
$$;
comment on function pythonic.take_back(bigint[]) is
    'Takes running tasks from workers that are gone. Counts a failure, because the task itself may have killed its worker. The caller has the admission locks. Returns how many.';

create or replace function pythonic.reap_tasks(p_worker uuid, p_held jsonb) returns integer
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
as $$
declare
    v_gone uuid[] := pythonic.gone_workers(p_worker);
    v_lost bigint[];
    v_users uuid[];
begin
    -- Not what the asking worker says it holds: it is alive, and was only asleep, with its computer perhaps.
    select array_agg(l.id), array_agg(distinct l.user_id) into v_lost, v_users from (
        select t.id, t.user_id from public.tasks t
        where t.state = 'running' and (t.lease_until < now() or t.worker_id = any (v_gone))
            and not (t.worker_id = p_worker and p_held @> to_jsonb(t.id))
        order by t.worker_id, t.id limit 100) l;
    if v_lost is null then return 0; end if;
    v_users := array(select u.id from unnest(v_users) as u (id) where pythonic.try_admission(u.id));
    -- Looked at again under the locks: a lease may have been renewed meanwhile.
    return pythonic.take_back(array(
        select t.id from public.tasks t
        where t.id = any (v_lost) and t.user_id = any (v_users) and t.state = 'running'
            and (t.lease_until < now() or t.worker_id = any (v_gone))
        order by t.id for update skip locked));
end
$$;
comment on function pythonic.reap_tasks(uuid, jsonb) is
    'Takes tasks back whose lease has ended, or whose direct worker is gone. Returns how many.';

create function pythonic.start_due(p_queue text) returns void
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
as $$
declare
    v_due record;
begin
    for v_due in
        select d.user_id, array_agg(d.id) as ids from (
            select t.id, t.user_id from public.tasks t
            where t.queue = p_queue and t.state = 'scheduled' and t.run_at <= now()
            order by t.run_at limit 1000) d
        group by d.user_id
    loop
        if pythonic.try_admission(v_due.user_id) then
            perform pythonic.admit_due(v_due.user_id, v_due.ids);
        end if;
    end loop;
end
$$;
comment on function pythonic.start_due(text) is 'Queues or holds what is due.';

create function pythonic.free_held() returns void
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
as $$
declare
    v_user uuid := null;
    v_from uuid;
    v_round integer;
begin
    -- Usually those who make room promote. A reason can also go by itself, such as a budget's day, so a few
    -- people are looked at each time, from anywhere in the row, around its end.
    v_from := pg_catalog.gen_random_uuid();
    for v_round in 1 .. 4 loop
        select t.user_id into v_user from public.tasks t
            where t.state = 'held' and t.user_id > v_from order by t.user_id limit 1;
        if not found then
            exit when v_from = '00000000-0000-0000-0000-000000000000';
            v_from := '00000000-0000-0000-0000-000000000000';
            continue;
        end if;
        if (select count(*) from public.tasks t where t.user_id = v_user and t.state in ('queued', 'running'))
            < (select p.active_limit from public.profiles p where p.id = v_user)
            and pythonic.try_admission(v_user) then
            perform pythonic.promote_held(v_user);
        end if;
        v_from := v_user;
    end loop;
end
$$;
comment on function pythonic.free_held() is 'Looks at a few people who have held tasks and room for them.';

create function pythonic.upkeep(p_worker uuid, p_queue text, p_held jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
begin
    if pg_catalog.pg_try_advisory_xact_lock(pythonic.upkeep_key()) then
        perform pythonic.reap_tasks(p_worker, p_held);
        perform pythonic.start_due(p_queue);
        perform pythonic.free_held();
    end if;
end
$$;
comment on function pythonic.upkeep(uuid, text, jsonb) is
    'Takes back what is lost, starts what is due, frees what need not be held; one at a time, never waiting for anybody.';

create sequence pythonic.upkeep_clock;
comment on sequence pythonic.upkeep_clock is
    'When a busy worker last did upkeep, in seconds of the epoch. A sequence, because it needs no lock and outlives no row.';

create function pythonic.upkeep_now_and_then(p_worker uuid, p_queue text, p_held jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
declare
    v_now bigint := extract(epoch from pg_catalog.clock_timestamp())::bigint;
begin
    if (select c.last_value from pythonic.upkeep_clock c) < v_now then
        perform pg_catalog.setval('pythonic.upkeep_clock', v_now);
        perform pythonic.upkeep(p_worker, p_queue, p_held);
    end if;
end
$$;
comment on function pythonic.upkeep_now_and_then(uuid, text, jsonb) is
    'Upkeep once in a second of all workers that are busy: what is lost must not wait until somebody is idle.';

create or replace function pythonic.recover_tasks(p_worker uuid) returns integer
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
as $$
begin
    perform pythonic.lock_admissions(array(
        select t.user_id from public.tasks t where t.state = 'running' and t.worker_id = p_worker));
    return pythonic.take_back(array(
        select t.id from public.tasks t where t.state = 'running' and t.worker_id = p_worker
        order by t.id for update));
end
$$;

-- ---------------------------------------------------------------------------------------------------------
-- Claiming
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.next_tasks(p_queue text, p_labels text[], p_most integer) returns bigint[]
language plpgsql security definer set search_path = ''
    -- Every claim walks tasks_claim, whatever the statistics say: those taken while the queue was empty would
    -- otherwise make it sort the whole backlog.
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
    set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_sets text[];
    v_labels text[];
    v_near bigint[];
    v_ids bigint[];
begin
    if p_most < 1 then return '{}'; end if;
    -- From one set of labels to the next: as many steps as there are sets, however many tasks have them.
    with recursive sets (labels) as (
        (select q.labels from public.tasks q where q.queue = p_queue and q.state = 'queued'
            order by q.labels limit 1)
        union all
        select (select q.labels from public.tasks q
                where q.queue = p_queue and q.state = 'queued' and q.labels > s.labels
                order by q.labels limit 1)
        from sets s where s.labels is not null
    )
    select array_agg(s.labels::text) into v_sets from sets s where s.labels <@ p_labels;
    if v_sets is null then return '{}'; end if;
    if cardinality(v_sets) = 1 then
        v_labels := v_sets[1]::text[];
        return array(
            select q.id from public.tasks q
            where q.queue = p_queue and q.state = 'queued' and q.labels = v_labels
            order by q.priority desc, q.id limit p_most for update skip locked);
    end if;
    -- The best of each set, and of them the best. They are locked only as far as they are taken, so that nobody
    -- else finds nothing; some more are looked at, because others may be taking the first.
    select array_agg(n.id) into v_near
    from unnest(v_sets) as s (labels) cross join lateral (
        select q.id from public.tasks q
        where q.queue = p_queue and q.state = 'queued' and q.labels = s.labels::text[]
        order by q.priority desc, q.id limit p_most + 100) n;
    v_ids := array(
        select q.id from public.tasks q where q.id = any (v_near) and q.state = 'queued'
        order by q.priority desc, q.id limit p_most for update skip locked);
    return v_ids;
end
$$;
comment on function pythonic.next_tasks(text, text[], integer) is
    'The queued tasks that a worker with these labels takes next, by priority, then age; locked.';

create function pythonic.past_of(p_tasks bigint[]) returns jsonb
language plpgsql stable security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    return (select jsonb_object_agg(c.id::text, jsonb_build_object(
        -- The person's earlier files of the thread stay at hand; of two with one name, the newer.
        'inputs', c.inputs || coalesce((
            select jsonb_agg(e.file || '{"earlier": true}' order by e.task desc)
            from (
                select distinct on (f.file ->> 'name') f.file, t.id as task
                from public.tasks t, jsonb_array_elements(t.inputs) as f (file)
                where t.thread_id = c.thread_id and t.id < c.id and not exists (
                    select 1 from jsonb_array_elements(c.inputs) as own (file)
                    where own.file ->> 'name' = f.file ->> 'name')
                order by f.file ->> 'name', t.id desc
                limit 50) e), '[]'),
        -- The newest ones that together are not too much to fetch for each task.
        'saved', coalesce((
            select jsonb_agg(jsonb_build_object(
                'name', s.name, 'type', s.type, 'shape', s.shape, 'bytes', s.bytes, 'media_type', s.media_type,
                'load', s.load, 'storage_path', s.storage_path) order by s.name)
            from (select v.*, sum(v.bytes) over (order by v.updated_at desc, v.name) as so_far
                  from public.variables v where v.thread_id = c.thread_id
                  order by v.updated_at desc, v.name limit 100) s
            where s.so_far <= 268435456), '[]'),
        -- What earlier attempts sent that may have changed something, since a person last asked for the task:
        -- running recorded code again would send it twice. GET, HEAD and OPTIONS are safe by RFC 9110, 9.2.1.
        'sent', coalesce((
            select jsonb_agg(distinct (e.data ->> 'method') || ' ' || (e.data ->> 'host'))
            from public.task_events e
            where e.task_id = c.id and e.attempt > c.asked_attempt
                and (e.kind = 'egress_begun' or e.kind = 'egress_requested'
                    and e.data ->> 'outcome' <> 'refused'
                    and e.data ->> 'method' not in ('GET', 'HEAD', 'OPTIONS', 'CONNECT'))), '[]'),
        'steps', coalesce((
            select jsonb_agg(jsonb_build_object(
                'step_id', s.step_id, 'title', s.title, 'goal', s.goal, 'proof', s.proof,
                'depends_on', to_jsonb(s.depends_on), 'state', s.state, 'code', s.code, 'output', s.output)
                order by s.position)
            from public.task_steps s where s.task_id = c.id), '[]'),
        'history', coalesce((
            select jsonb_agg(jsonb_build_object('role', h.role, 'content', h.content) order by h.id)
            -- The sum keeps the order from being read off messages_pkey, through the messages of everybody.
            from (select m.id, m.role, m.content from public.messages m
                  where m.thread_id = c.thread_id and m.task_id < c.id
                  order by m.id + 0 desc limit 20) h), '[]')))
    from public.tasks c where c.id = any (p_tasks));
end
$$;
comment on function pythonic.past_of(bigint[]) is
    'By task: what earlier tasks of the thread and earlier attempts left for a run.';

create function pythonic.claim(p_worker uuid, p_queue text, p_most integer, p_lease_seconds double precision, p_labels text[])
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

    select extract(epoch from t.run_at - now()) into v_next
        from public.tasks t where t.queue = p_queue and t.state = 'scheduled' order by t.run_at limit 1;
    return jsonb_build_object('tasks', coalesce(v_tasks, '[]'), 'next_due_seconds', v_next);
end
$$;
comment on function pythonic.claim(uuid, text, integer, double precision, text[]) is
    'Claims queued tasks, with all that a run needs, and says when the next scheduled task is due.';

drop function public.claim_tasks(uuid, text, integer, double precision, jsonb);
drop function pythonic.claim_tasks(uuid, text, integer, double precision, jsonb);
create function pythonic.claim_tasks(
    p_worker uuid, p_queue text, p_limit integer, p_lease_seconds double precision, p_held jsonb,
    p_labels text[] default '{}')
returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
    perform pythonic.upkeep(p_worker, p_queue, p_held);
    return pythonic.claim(p_worker, p_queue, p_limit, p_lease_seconds, p_labels);
end
$$;
comment on function pythonic.claim_tasks(uuid, text, integer, double precision, jsonb, text[]) is
    'Claims up to n queued tasks for a worker that has these labels and holds the tasks [id], and says when the next scheduled task is due.';

create or replace function pythonic.heartbeat_tasks(p_worker uuid, p_tasks jsonb, p_lease_seconds double precision)
returns jsonb
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
as $$
declare
    v_ids bigint[] := array(select (e ->> 'id')::bigint from jsonb_array_elements(p_tasks) e);
    v_result jsonb;
begin
    perform set_config('synchronous_commit', 'off', true);  -- a lost heartbeat is followed by another
    update public.workers w set seen_at = now() where w.id = p_worker and w.seen_at < now() - interval '1 second';
    -- By id, as everybody who changes several: in another order, two would wait for each other.
    perform 1 from public.tasks t where t.id = any (v_ids) and t.worker_id = p_worker order by t.id for no key update;
    with held as (
        select (e ->> 'id')::bigint as id, (e ->> 'attempt')::integer as attempt
        from jsonb_array_elements(p_tasks) e
    ), renewed as (
        update public.tasks t set lease_until = now() + make_interval(secs => p_lease_seconds)
        from held h
        where t.id = h.id and t.id = any (v_ids) and t.attempt = h.attempt and t.worker_id = p_worker
        returning t.id, t.attempt, t.cancel_requested_at
    )
    select jsonb_agg(jsonb_build_object('id', h.id, 'attempt', h.attempt, 'status', case
        when r.id is null then 'lost' when r.cancel_requested_at is not null then 'cancel' else 'ok' end))
    into v_result
    from held h left join renewed r on r.id = h.id and r.attempt = h.attempt;
    return coalesce(v_result, '[]');
end
$$;

-- ---------------------------------------------------------------------------------------------------------
-- Events
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.apply_event_to_steps(p_task public.tasks, p_attempt integer, p_event jsonb) returns void
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_data jsonb := p_event -> 'data';
begin
    case p_event ->> 'kind'
    when 'run_started' then
        update public.tasks set model_used = v_data ->> 'model', sandbox_tier = v_data ->> 'sandbox'
            where id = p_task.id;
    when 'plan_made' then
        delete from public.task_steps s where s.task_id = p_task.id;
        insert into public.task_steps
            (task_id, step_id, user_id, position, title, goal, proof, depends_on, attempt)
        select p_task.id, s.step ->> 'id', p_task.user_id, s.place - 1, s.step ->> 'title', s.step ->> 'goal',
            coalesce(s.step ->> 'proof', ''),
            coalesce(array(select jsonb_array_elements_text(s.step -> 'depends_on')), '{}'), p_attempt
        from jsonb_array_elements(v_data -> 'plan' -> 'steps') with ordinality as s (step, place);
    when 'step_started' then
        update public.task_steps s set state = 'running', attempt = p_attempt, error = null,
            started_at = (p_event ->> 'at')::timestamptz, finished_at = null
            where s.task_id = p_task.id and s.step_id = p_event ->> 'step_id';
    when 'step_finished' then
        update public.task_steps s set state = v_data ->> 'outcome', attempt = p_attempt,
            executions = (v_data ->> 'executions')::integer, code = v_data ->> 'code',
            output = v_data ->> 'output', error = nullif(v_data ->> 'error', ''),
            finished_at = (p_event ->> 'at')::timestamptz
            where s.task_id = p_task.id and s.step_id = p_event ->> 'step_id';
    when 'artifact_saved' then
        insert into public.artifacts (task_id, user_id, attempt, name, storage_path, media_type, bytes, sha256)
        values (p_task.id, p_task.user_id, p_attempt, v_data ->> 'name', v_data ->> 'storage_path',
            v_data ->> 'media_type', (v_data ->> 'bytes')::bigint, v_data ->> 'sha256')
        on conflict (task_id, name) do update set attempt = excluded.attempt,
            storage_path = excluded.storage_path, media_type = excluded.media_type,
            bytes = excluded.bytes, sha256 = excluded.sha256, created_at = now();
    when 'variable_saved' then
        -- A task of no thread has no later tasks either.
        insert into public.variables (thread_id, name, user_id, task_id, type, shape, bytes, media_type, load,
            storage_path)
        select p_task.thread_id, v_data ->> 'name', p_task.user_id, p_task.id, v_data ->> 'type',
            coalesce(v_data ->> 'shape', ''), (v_data ->> 'bytes')::bigint, v_data ->> 'media_type',
            v_data ->> 'load', v_data ->> 'storage_path'
        where p_task.thread_id is not null
        on conflict (thread_id, name) do update set task_id = excluded.task_id, type = excluded.type,
            shape = excluded.shape, bytes = excluded.bytes, media_type = excluded.media_type,
            load = excluded.load, storage_path = excluded.storage_path, updated_at = now();
    else
        null;  -- many events are only told
    end case;
end
$$;
comment on function pythonic.apply_event_to_steps(public.tasks, integer, jsonb) is
    'What a stored event changes in the task, its steps, artifacts and variables.';

create function pythonic.apply_event(p_task public.tasks, p_attempt integer, p_event jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
begin
    perform pythonic.apply_event_to_steps(p_task, p_attempt, p_event);
end
$$;
comment on function pythonic.apply_event(public.tasks, integer, jsonb) is 'What a stored event changes elsewhere.';

create or replace function pythonic.append_events(p_worker uuid, p_task bigint, p_attempt integer, p_events jsonb)
returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_task public.tasks;
    v_event jsonb;
    v_payload jsonb;
begin
    -- A variable is the thread's: who removes the thread has the admission, and must not meet us half-way.
    if exists (select 1 from jsonb_array_elements(p_events) e where e ->> 'kind' = 'variable_saved') then
        perform pythonic.lock_admission_of(p_task);
    end if;
    -- The lock holds off a reaper until these rows are written, so that a later attempt never sees half of them.
    select * into v_task from public.tasks t
        where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker for share;
    if not found then return false; end if;
    if not exists (select 1 from jsonb_array_elements(p_events) e
        where e ->> 'kind' = any (pythonic.durable_kinds())) then
        perform set_config('synchronous_commit', 'off', true);
    end if;

    insert into public.task_events (task_id, attempt, seq, user_id, kind, step_id, data, created_at)
    select p_task, p_attempt, (e ->> 'seq')::integer, v_task.user_id, e ->> 'kind', e ->> 'step_id',
        coalesce(e -> 'data', '{}'), coalesce((e ->> 'at')::timestamptz, now())
    from jsonb_array_elements(p_events) e
    on conflict (task_id, attempt, seq) do nothing;

    for v_event in select e from jsonb_array_elements(p_events) e order by (e ->> 'seq')::integer loop
        perform pythonic.apply_event(v_task, p_attempt, v_event);
    end loop;

    v_payload := jsonb_build_object('task_id', p_task, 'attempt', p_attempt, 'events', p_events);
    if octet_length(v_payload::text) > 100000 then  -- Realtime takes 256 KB; a reader fetches the rows instead
        v_payload := jsonb_build_object('task_id', p_task, 'attempt', p_attempt, 'events', null);
    end if;
    perform pythonic.tell('user:' || v_task.user_id::text, 'events', v_payload);
    return true;
end
$$;

-- ---------------------------------------------------------------------------------------------------------
-- Ending attempts
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.finish_many(p_worker uuid, p_ended jsonb) returns jsonb
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
comment on function pythonic.finish_many(uuid, jsonb) is
    'Ends tasks with their answers: [{"id", "attempt", "answer", "verdict", "evidence", "usage"}]; says for each whether it was kept.';

create or replace function pythonic.finish_task(
    p_worker uuid, p_task bigint, p_attempt integer, p_answer text, p_verdict text, p_evidence jsonb, p_usage jsonb)
returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
    return (pythonic.finish_many(p_worker, jsonb_build_array(jsonb_build_object(
        'id', p_task, 'attempt', p_attempt, 'answer', p_answer, 'verdict', p_verdict,
        'evidence', p_evidence, 'usage', p_usage))) -> 0 -> 'kept')::boolean;
end
$$;

create function pythonic.backoff_seconds(p_failures integer, p_luck double precision) returns double precision
language sql immutable set search_path = ''
as $$
    -- A fifth more or less, so that many do not come back at once; 3000 s and a fifth are the hour.
    select least(5 * 2 ^ least(p_failures, 30), 3000) * (0.8 + 0.4 * p_luck)
$$;
comment on function pythonic.backoff_seconds(integer, double precision) is
    'After so many failures: 5 s, doubled for each, a fifth more or less by luck from 0 to 1, an hour at most.';

create or replace function pythonic.fail_task(
    p_worker uuid, p_task bigint, p_attempt integer, p_error text, p_retryable boolean, p_evidence jsonb, p_usage jsonb)
returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_task public.tasks;
    v_again boolean;
begin
    perform pythonic.lock_admission_of(p_task);
    select * into v_task from public.tasks t
        where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker for update;
    if not found then
        return exists (select 1 from public.tasks t
            where t.id = p_task and t.attempt = p_attempt and t.state in ('failed', 'scheduled') and t.error = p_error);
    end if;
    v_again := p_retryable and v_task.failures + 1 < v_task.max_failures and v_task.cancel_requested_at is null;
    update public.tasks t set
        failures = t.failures + 1, worker_id = null, lease_until = null, error = p_error,
        evidence = p_evidence, usage = p_usage,
        verdict = case when jsonb_array_length(p_evidence) > 0 and not v_again
            and v_task.cancel_requested_at is null then 'refuted' end,
        state = case
            when v_task.cancel_requested_at is not null then 'cancelled'
            when v_again then 'scheduled'
            else 'failed'
        end,
        finished_at = case when v_again then null else now() end,
        run_at = case when v_again
            then now() + make_interval(secs => pythonic.backoff_seconds(t.failures, random())) else t.run_at end
    where t.id = p_task;
    perform pythonic.promote_held(v_task.user_id);
    return true;
end
$$;

create or replace function pythonic.confirm_cancel(p_worker uuid, p_task bigint, p_attempt integer) returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_user uuid := pythonic.lock_admission_of(p_task);
begin
    update public.tasks t set state = 'cancelled', finished_at = now(), worker_id = null, lease_until = null
        where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker
            and t.cancel_requested_at is not null;
    if not found then return false; end if;
    update public.task_steps s set state = 'pending' where s.task_id = p_task and s.state = 'running';
    perform pythonic.promote_held(v_user);
    return true;
end
$$;

create function pythonic.wait_task(p_worker uuid, p_task bigint, p_attempt integer, p_reason text, p_usage jsonb)
returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_user uuid := pythonic.lock_admission_of(p_task);
    v_state text;
begin
    update public.tasks t set
        worker_id = null, lease_until = null, usage = coalesce(p_usage, '{}'), resume_attempt = null,
        state = case
            when t.cancel_requested_at is not null then 'cancelled'
            when t.resume_attempt = p_attempt then 'queued'
            else 'waiting'
        end,
        finished_at = case when t.cancel_requested_at is not null then now() end,
        waiting_for = case when t.cancel_requested_at is null and t.resume_attempt is distinct from p_attempt
            then left(coalesce(nullif(btrim(p_reason), ''), 'an answer'), 2000) end
    where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker
    returning t.state into v_state;
    if not found then
        -- The same word may come twice when its first reply was lost on the way.
        return exists (select 1 from public.tasks t
            where t.id = p_task and t.attempt = p_attempt and t.state = 'waiting');
    end if;
    update public.task_steps s set state = 'pending' where s.task_id = p_task and s.state = 'running';
    if v_state <> 'queued' then
        perform pythonic.promote_held(v_user);
    end if;
    return true;
end
$$;
comment on function pythonic.wait_task(uuid, bigint, integer, text, jsonb) is
    'Puts a task aside until resume_task: it holds no slot and does not count as active. False: the lease is lost.';

create function pythonic.end_attempt(p_worker uuid, p_ending jsonb) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
    v_task bigint := (p_ending ->> 'id')::bigint;
    v_attempt integer := (p_ending ->> 'attempt')::integer;
begin
    case p_ending ->> 'how'
    when 'fail' then
        return pythonic.fail_task(p_worker, v_task, v_attempt, p_ending ->> 'error',
            coalesce((p_ending -> 'retryable')::boolean, false),
            coalesce(p_ending -> 'evidence', '[]'), coalesce(p_ending -> 'usage', '{}'));
    when 'release' then
        return pythonic.release_task(p_worker, v_task, v_attempt);
    when 'cancel' then
        return pythonic.confirm_cancel(p_worker, v_task, v_attempt);
    when 'wait' then
        return pythonic.wait_task(p_worker, v_task, v_attempt, p_ending ->> 'reason', coalesce(p_ending -> 'usage', '{}'));
    else
        raise exception 'An attempt cannot end by %.', coalesce(quote_literal(p_ending ->> 'how'), 'nothing')
            using errcode = 'invalid_parameter_value';
    end case;
end
$$;
comment on function pythonic.end_attempt(uuid, jsonb) is 'Ends one attempt in another way than by finishing its task.';

create function pythonic.cycle_tasks(
    p_worker uuid, p_queue text, p_limit integer, p_lease_seconds double precision, p_held jsonb, p_labels text[],
    p_ended jsonb)
returns jsonb
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_ids bigint[];
    v_finished jsonb;
    v_other jsonb;
    v_kept jsonb := '[]';
begin
    select jsonb_agg(e) filter (where e ->> 'how' = 'finish'), jsonb_agg(e) filter (where e ->> 'how' <> 'finish'),
        array_agg((e ->> 'id')::bigint)
    into v_finished, v_other, v_ids from jsonb_array_elements(p_ended) e;
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
    if v_ids is null then
        perform pythonic.upkeep(p_worker, p_queue, p_held);
    else
        perform pythonic.upkeep_now_and_then(p_worker, p_queue, p_held);
    end if;
    return pythonic.claim(p_worker, p_queue, p_limit, p_lease_seconds, p_labels)
        || jsonb_build_object('ended', v_kept);
end
$$;
comment on function pythonic.cycle_tasks(uuid, text, integer, double precision, jsonb, text[], jsonb) is
    'Ends attempts [{"how": finish, fail, release, cancel or wait, "id", "attempt", …}], does upkeep, and claims: one call, one flush. All or nothing.';

-- ---------------------------------------------------------------------------------------------------------
-- Thin wrappers in public, and who may call them
-- ---------------------------------------------------------------------------------------------------------

create function public.claim_tasks(
    worker uuid, queue text, most integer, lease_seconds double precision, held jsonb default '[]',
    labels text[] default '{}') returns jsonb
    language sql security invoker set search_path = ''
    as $$ select pythonic.claim_tasks(worker, queue, most, lease_seconds, held, labels) $$;
comment on function public.claim_tasks(uuid, text, integer, double precision, jsonb, text[]) is 'For workers: claims tasks.';
create function public.cycle_tasks(
    worker uuid, queue text, most integer, lease_seconds double precision, held jsonb default '[]',
    labels text[] default '{}', ended jsonb default '[]') returns jsonb
    language sql security invoker set search_path = ''
    as $$ select pythonic.cycle_tasks(worker, queue, most, lease_seconds, held, labels, ended) $$;
comment on function public.cycle_tasks(uuid, text, integer, double precision, jsonb, text[], jsonb) is
    'For workers: ends attempts and claims tasks in one call.';
create function public.wait_task(
    worker uuid, task_id bigint, attempt integer, reason text, usage jsonb default '{}') returns boolean
    language sql security invoker set search_path = ''
    as $$ select pythonic.wait_task(worker, task_id, attempt, reason, usage) $$;
comment on function public.wait_task(uuid, bigint, integer, text, jsonb) is 'For workers: puts a task aside until it is resumed.';
create function public.worker_seen(worker uuid, facts jsonb default '{}') returns void
    language sql security invoker set search_path = '' as $$ select pythonic.worker_seen(worker, facts) $$;
comment on function public.worker_seen(uuid, jsonb) is 'For workers: notes what a worker tells of itself.';

revoke all on all functions in schema pythonic from public;
revoke all on function public.enqueue_task, public.claim_tasks, public.cycle_tasks, public.wait_task, public.worker_seen
    from public, anon, authenticated;
grant execute on function pythonic.labels_problem to authenticated, service_role;
grant execute on function public.enqueue_task to authenticated, service_role;
grant execute on function public.claim_tasks, public.cycle_tasks, public.wait_task, public.worker_seen,
    pythonic.claim_tasks, pythonic.cycle_tasks, pythonic.wait_task, pythonic.worker_seen to service_role;
