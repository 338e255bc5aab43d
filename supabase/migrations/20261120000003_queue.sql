-- The queue: every change of a task's state is one of these functions. A claim raises `attempt`; whatever a
-- worker writes names the attempt and the worker, so that one whose lease was lost is refused.
-- A row inserted by hand or by REST is admitted by a trigger, so it is a task like any other.

-- ---------------------------------------------------------------------------------------------------------
-- Telling people and workers
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.tell(p_topic text, p_event text, p_payload jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
begin
    perform realtime.send(p_payload, p_event, p_topic, true);
end
$$;
comment on function pythonic.tell(text, text, jsonb) is 'Broadcasts on a private Realtime topic. Delivery is a hint; the rows are the truth.';

-- ---------------------------------------------------------------------------------------------------------
-- Admission
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.state_on_admission(p_user uuid) returns text
language plpgsql security definer set search_path = ''
as $$
declare
    v_limit integer;
    v_active integer;
begin
    -- One admission per person at a time: the count is read from the index, so there is no counter to drift.
    perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pythonic.admission:' || p_user::text, 0));
    select p.active_limit into v_limit from public.profiles p where p.id = p_user;
    select count(*) into v_active from public.tasks t
        where t.user_id = p_user and t.state in ('queued', 'running');
    return case when v_active < coalesce(v_limit, 5) then 'queued' else 'held' end;
end
$$;
comment on function pythonic.state_on_admission(uuid) is 'queued, or held while the person already has as many active tasks as allowed.';

create function pythonic.admit_task() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    v_people uuid[];
    v_file jsonb;
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
    if new.thread_id is not null and not exists (
        select 1 from public.threads th where th.id = new.thread_id and th.user_id = new.user_id
    ) then
        raise exception 'This thread does not exist or belongs to somebody else.'
            using errcode = 'insufficient_privilege';
    end if;
    if new.assistant_id is not null and not exists (
        select 1 from public.assistants a
        where a.id = new.assistant_id and (a.user_id is null or a.user_id = new.user_id)
    ) then
        raise exception 'This assistant does not exist or belongs to somebody else.'
            using errcode = 'insufficient_privilege';
    end if;
    new.inputs := coalesce(new.inputs, '[]');
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

    if auth.uid() is not null then
        new.priority := greatest(least(coalesce(new.priority, 0), 10), -10);
    end if;
    new.run_at := coalesce(new.run_at, now());
    new.attempt := 0;
    new.failures := 0;
    if new.kind = 'probe' then
        new.max_failures := 1;  -- somebody waits for the word
    end if;
    new.worker_id := null;
    new.lease_until := null;
    new.cancel_requested_at := null;
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
    new.state := case
        when new.run_at > now() then 'scheduled'
        else pythonic.state_on_admission(new.user_id)
    end;
    if new.thread_id is null and new.kind = 'task' then
        insert into public.threads (user_id, assistant_id, title)
        values (new.user_id, new.assistant_id, left(btrim(regexp_replace(new.prompt, '\s+', ' ', 'g')), 80))
        returning id into new.thread_id;
    end if;
    return new;
end
$$;
comment on function pythonic.admit_task() is 'Makes any inserted row a proper task: owner, thread, files, state.';
create trigger admit_task before insert on public.tasks
    for each row execute function pythonic.admit_task();

create function pythonic.task_changed() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    if tg_op = 'INSERT' and new.kind = 'task' then
        insert into public.messages (thread_id, user_id, task_id, role, content)
        values (new.thread_id, new.user_id, new.id, 'user', new.prompt);
        update public.threads set
            updated_at = now(),
            title = case when title = 'New thread'
                then left(btrim(regexp_replace(new.prompt, '\s+', ' ', 'g')), 80) else title end
        where id = new.thread_id;
    end if;
    perform pythonic.tell('user:' || new.user_id::text, 'task', jsonb_build_object(
        'task_id', new.id, 'thread_id', new.thread_id, 'kind', new.kind, 'state', new.state,
        'attempt', new.attempt, 'verdict', new.verdict, 'cancelling', new.cancel_requested_at is not null));
    if new.state = 'queued' then
        perform pythonic.tell('queue', 'queued', jsonb_build_object('queue', new.queue));
    elsif new.state = 'running' and new.cancel_requested_at is not null then
        perform pythonic.tell('queue', 'cancel', jsonb_build_object('task_id', new.id, 'attempt', new.attempt));
    end if;
    return null;
end
$$;
comment on function pythonic.task_changed() is 'Writes the person''s message, tells the page, and wakes the workers.';
create trigger task_inserted after insert on public.tasks
    for each row execute function pythonic.task_changed();
create trigger task_updated after update of state, cancel_requested_at on public.tasks
    for each row when (
        old.state is distinct from new.state or old.cancel_requested_at is distinct from new.cancel_requested_at)
    execute function pythonic.task_changed();

-- ---------------------------------------------------------------------------------------------------------
-- For people: enqueue, cancel, retry
-- ---------------------------------------------------------------------------------------------------------

create function public.enqueue_task(
    prompt text,
    thread_id uuid default null,
    assistant_id uuid default null,
    inputs jsonb default '[]',
    model text default null,
    kind text default 'task',
    priority smallint default 0,
    run_at timestamptz default null,
    dedupe_key text default null
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
        insert into public.tasks (prompt, thread_id, assistant_id, inputs, model, kind, priority, run_at, dedupe_key)
        values (enqueue_task.prompt, enqueue_task.thread_id, enqueue_task.assistant_id, enqueue_task.inputs,
            enqueue_task.model, enqueue_task.kind, enqueue_task.priority,
            coalesce(enqueue_task.run_at, now()), enqueue_task.dedupe_key)
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

create function pythonic.promote_held(p_user uuid) returns void
language plpgsql security definer set search_path = ''
as $$
declare
    v_id bigint;
begin
    loop
        exit when pythonic.state_on_admission(p_user) <> 'queued';
        update public.tasks set state = 'queued' where id = (
            select t.id from public.tasks t where t.user_id = p_user and t.state = 'held'
            order by t.priority desc, t.id limit 1 for update skip locked)
        returning id into v_id;
        exit when v_id is null;
    end loop;
end
$$;
comment on function pythonic.promote_held(uuid) is 'Queues held tasks of a person while there is room.';

create function pythonic.room_made() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    if tg_table_name = 'profiles' then
        perform pythonic.promote_held(new.id);
    elsif exists (select 1 from public.profiles p where p.id = old.user_id) then
        perform pythonic.promote_held(old.user_id);
    end if;
    return null;
end
$$;
comment on function pythonic.room_made() is 'Lets held tasks go on when active ones are deleted with their thread, or when the limit is raised.';
create trigger room_made after delete on public.tasks
    for each row when (old.state in ('queued', 'running')) execute function pythonic.room_made();
create trigger room_made after update of active_limit on public.profiles
    for each row when (new.active_limit > old.active_limit) execute function pythonic.room_made();

create function pythonic.cancel_task(p_task bigint) returns text
language plpgsql security definer set search_path = ''
as $$
declare
    v_task public.tasks;
begin
    select * into v_task from public.tasks t
        where t.id = p_task and (auth.uid() is null or t.user_id = auth.uid()) for update;
    if not found then
        raise exception 'There is no task % of yours.', p_task using errcode = 'insufficient_privilege';
    end if;
    if v_task.state in ('succeeded', 'failed', 'cancelled') then return v_task.state; end if;
    if v_task.state = 'running' then
        update public.tasks set cancel_requested_at = coalesce(cancel_requested_at, now()) where id = p_task;
        return 'cancelling';
    end if;
    update public.tasks set state = 'cancelled', finished_at = now(), cancel_requested_at = now() where id = p_task;
    perform pythonic.promote_held(v_task.user_id);
    return 'cancelled';
end
$$;
comment on function pythonic.cancel_task(bigint) is 'Cancels at once what does not run; asks the worker to stop what does. Returns the state, or cancelling.';

create function pythonic.retry_task(p_task bigint, p_from_start boolean) returns text
language plpgsql security definer set search_path = ''
as $$
declare
    v_task public.tasks;
begin
    select * into v_task from public.tasks t
        where t.id = p_task and (auth.uid() is null or t.user_id = auth.uid()) for update;
    if not found then
        raise exception 'There is no task % of yours.', p_task using errcode = 'insufficient_privilege';
    end if;
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
    update public.tasks set
        state = pythonic.state_on_admission(v_task.user_id), failures = 0, run_at = now(),
        started_at = null, finished_at = null,
        cancel_requested_at = null, answer = null, verdict = null, evidence = '[]', error = null
    where id = p_task
    returning state into v_task.state;
    return v_task.state;
end
$$;
comment on function pythonic.retry_task(bigint, boolean) is 'Queues an ended task again: after its last finished step, or from the start.';

-- ---------------------------------------------------------------------------------------------------------
-- For workers
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.take_back(p_task bigint) returns void
language plpgsql security definer set search_path = ''
as $$
declare
    v_task public.tasks;
begin
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
    where t.id = p_task and t.state = 'running'
    returning * into v_task;
    if v_task.state in ('cancelled', 'failed') then
        perform pythonic.promote_held(v_task.user_id);
    end if;
end
$$;
comment on function pythonic.take_back(bigint) is 'Takes a running task from a worker that is gone. Counts a failure, because the task itself may have killed it.';

create function pythonic.reap_tasks(p_worker uuid, p_held jsonb) returns integer
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_id bigint;
    v_count integer := 0;
begin
    for v_id in
        -- Not what the asking worker says it holds: it is alive, and was only asleep, with its computer perhaps.
        select t.id from public.tasks t
        where t.state = 'running' and t.lease_until < now()
            and not (t.worker_id = p_worker and p_held @> to_jsonb(t.id))
        order by t.id limit 100 for update skip locked
    loop
        perform pythonic.take_back(v_id);
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;
comment on function pythonic.reap_tasks(uuid, jsonb) is 'Takes tasks back whose lease has ended. Returns how many.';

create function pythonic.upkeep_key() returns bigint
    language sql immutable set search_path = ''
    as $$ select pg_catalog.hashtextextended('pythonic.upkeep', 0) $$;
comment on function pythonic.upkeep_key() is
    'The advisory lock of whoever changes tasks of several people at once: two at a time would deadlock over admission.';

create function pythonic.recover_tasks(p_worker uuid) returns integer
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_id bigint;
    v_count integer := 0;
begin
    perform pg_catalog.pg_advisory_xact_lock(pythonic.upkeep_key());
    for v_id in
        select t.id from public.tasks t where t.state = 'running' and t.worker_id = p_worker
        order by t.id for update
    loop
        perform pythonic.take_back(v_id);
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;
comment on function pythonic.recover_tasks(uuid) is
    'For a worker that starts again: takes back what its former process held, without waiting for the leases. Returns how many.';

create function pythonic.claim_tasks(
    p_worker uuid, p_queue text, p_limit integer, p_lease_seconds double precision, p_held jsonb)
returns jsonb
language plpgsql security definer set search_path = '' set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_due record;
    v_tasks jsonb;
    v_next double precision;
begin
    if pg_catalog.pg_try_advisory_xact_lock(pythonic.upkeep_key()) then
        perform pythonic.reap_tasks(p_worker, p_held);
        for v_due in
            select t.id, t.user_id from public.tasks t
            where t.queue = p_queue and t.state = 'scheduled' and t.run_at <= now()
            order by t.run_at limit 100 for update skip locked
        loop
            update public.tasks set state = pythonic.state_on_admission(v_due.user_id) where id = v_due.id;
        end loop;
    end if;

    with claimed as (
        update public.tasks t set
            state = 'running', attempt = t.attempt + 1, worker_id = p_worker,
            lease_until = now() + make_interval(secs => p_lease_seconds),
            started_at = coalesce(t.started_at, now())
        where t.id = any (array(
            select q.id from public.tasks q where q.queue = p_queue and q.state = 'queued'
            order by q.priority desc, q.id limit greatest(p_limit, 0) for update skip locked))
        returning t.*
    )
    select jsonb_agg(jsonb_build_object(
        'id', c.id, 'attempt', c.attempt, 'user_id', c.user_id, 'kind', c.kind, 'prompt', c.prompt,
        'thread_id', c.thread_id, 'lease_until', c.lease_until,
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
        'model', coalesce(c.model, a.model), 'instructions', coalesce(a.instructions, ''),
        'steps', coalesce((
            select jsonb_agg(jsonb_build_object(
                'step_id', s.step_id, 'title', s.title, 'goal', s.goal, 'proof', s.proof,
                'depends_on', to_jsonb(s.depends_on), 'state', s.state, 'code', s.code, 'output', s.output)
                order by s.position)
            from public.task_steps s where s.task_id = c.id), '[]'),
        'history', coalesce((
            select jsonb_agg(jsonb_build_object('role', h.role, 'content', h.content) order by h.id)
            from (select m.id, m.role, m.content from public.messages m
                  where m.thread_id = c.thread_id and m.task_id < c.id
                  order by m.id desc limit 20) h), '[]')
        ) order by c.priority desc, c.id)
    into v_tasks
    from claimed c
    left join public.threads th on th.id = c.thread_id
    left join public.assistants a on a.id = coalesce(c.assistant_id, th.assistant_id)
        and (a.user_id is null or a.user_id = c.user_id);

    select extract(epoch from min(t.run_at) - now()) into v_next
        from public.tasks t where t.queue = p_queue and t.state = 'scheduled';
    return jsonb_build_object('tasks', coalesce(v_tasks, '[]'), 'next_due_seconds', v_next);
end
$$;
comment on function pythonic.claim_tasks(uuid, text, integer, double precision, jsonb) is
    'Claims up to n queued tasks for a worker that holds the tasks [id], with all that a run needs, and says when the next scheduled task is due.';

create function pythonic.heartbeat_tasks(p_worker uuid, p_tasks jsonb, p_lease_seconds double precision)
returns jsonb
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_result jsonb;
begin
    perform set_config('synchronous_commit', 'off', true);  -- a lost heartbeat is followed by another
    with held as (
        select (e ->> 'id')::bigint as id, (e ->> 'attempt')::integer as attempt
        from jsonb_array_elements(p_tasks) e
    ), renewed as (
        update public.tasks t set lease_until = now() + make_interval(secs => p_lease_seconds)
        from held h
        where t.id = h.id and t.attempt = h.attempt and t.worker_id = p_worker
        returning t.id, t.attempt, t.cancel_requested_at
    )
    select jsonb_agg(jsonb_build_object('id', h.id, 'attempt', h.attempt, 'status', case
        when r.id is null then 'lost' when r.cancel_requested_at is not null then 'cancel' else 'ok' end))
    into v_result
    from held h left join renewed r on r.id = h.id and r.attempt = h.attempt;
    return coalesce(v_result, '[]');
end
$$;
comment on function pythonic.heartbeat_tasks(uuid, jsonb, double precision) is
    'Renews the leases of [{"id", "attempt"}]; says for each: ok, cancel or lost.';

create function pythonic.append_events(p_worker uuid, p_task bigint, p_attempt integer, p_events jsonb)
returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_user uuid;
    v_event jsonb;
    v_data jsonb;
    v_payload jsonb;
begin
    -- The lock holds off a reaper until these rows are written, so that a later attempt never sees half of them.
    select t.user_id into v_user from public.tasks t
        where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker for share;
    if not found then return false; end if;
    perform set_config('synchronous_commit', case when exists (
        select 1 from jsonb_array_elements(p_events) e where e ->> 'kind' in ('plan_made', 'step_finished'))
        then 'on' else 'off' end, true);

    insert into public.task_events (task_id, attempt, seq, user_id, kind, step_id, data, created_at)
    select p_task, p_attempt, (e ->> 'seq')::integer, v_user, e ->> 'kind', e ->> 'step_id',
        coalesce(e -> 'data', '{}'), coalesce((e ->> 'at')::timestamptz, now())
    from jsonb_array_elements(p_events) e
    on conflict (task_id, attempt, seq) do nothing;

    for v_event in
        select e from jsonb_array_elements(p_events) e
        where e ->> 'kind' in ('run_started', 'plan_made', 'step_started', 'step_finished', 'artifact_saved')
        order by (e ->> 'seq')::integer
    loop
        v_data := v_event -> 'data';
        case v_event ->> 'kind'
        when 'run_started' then
            update public.tasks set model_used = v_data ->> 'model', sandbox_tier = v_data ->> 'sandbox'
                where id = p_task;
        when 'plan_made' then
            delete from public.task_steps s where s.task_id = p_task;
            insert into public.task_steps
                (task_id, step_id, user_id, position, title, goal, proof, depends_on, attempt)
            select p_task, s.step ->> 'id', v_user, s.place - 1, s.step ->> 'title', s.step ->> 'goal',
                coalesce(s.step ->> 'proof', ''),
                coalesce(array(select jsonb_array_elements_text(s.step -> 'depends_on')), '{}'), p_attempt
            from jsonb_array_elements(v_data -> 'plan' -> 'steps') with ordinality as s (step, place);
        when 'step_started' then
            update public.task_steps s set state = 'running', attempt = p_attempt, error = null,
                started_at = (v_event ->> 'at')::timestamptz, finished_at = null
                where s.task_id = p_task and s.step_id = v_event ->> 'step_id';
        when 'step_finished' then
            update public.task_steps s set state = v_data ->> 'outcome', attempt = p_attempt,
                executions = (v_data ->> 'executions')::integer, code = v_data ->> 'code',
                output = v_data ->> 'output', error = nullif(v_data ->> 'error', ''),
                finished_at = (v_event ->> 'at')::timestamptz
                where s.task_id = p_task and s.step_id = v_event ->> 'step_id';
        when 'artifact_saved' then
            insert into public.artifacts (task_id, user_id, attempt, name, storage_path, media_type, bytes, sha256)
            values (p_task, v_user, p_attempt, v_data ->> 'name', v_data ->> 'storage_path',
                v_data ->> 'media_type', (v_data ->> 'bytes')::bigint, v_data ->> 'sha256')
            on conflict (task_id, name) do update set attempt = excluded.attempt,
                storage_path = excluded.storage_path, media_type = excluded.media_type,
                bytes = excluded.bytes, sha256 = excluded.sha256, created_at = now();
        end case;
    end loop;

    v_payload := jsonb_build_object('task_id', p_task, 'attempt', p_attempt, 'events', p_events);
    if octet_length(v_payload::text) > 100000 then  -- Realtime takes 256 KB; a reader fetches the rows instead
        v_payload := jsonb_build_object('task_id', p_task, 'attempt', p_attempt, 'events', null);
    end if;
    perform pythonic.tell('user:' || v_user::text, 'events', v_payload);
    return true;
end
$$;
comment on function pythonic.append_events(uuid, bigint, integer, jsonb) is
    'Stores events [{"seq", "kind", "step_id", "at", "data"}] of an attempt and what follows from them for steps and artifacts. False: the lease is lost.';

create function pythonic.finish_task(
    p_worker uuid, p_task bigint, p_attempt integer, p_answer text, p_verdict text, p_evidence jsonb, p_usage jsonb)
returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_task public.tasks;
begin
    update public.tasks t set
        state = 'succeeded', finished_at = now(), worker_id = null, lease_until = null,
        answer = p_answer, verdict = p_verdict, evidence = p_evidence, usage = p_usage, error = null
    where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker
    returning * into v_task;
    if not found then
        -- The same finish may come twice when its first reply was lost on the way.
        return exists (select 1 from public.tasks t
            where t.id = p_task and t.attempt = p_attempt and t.state = 'succeeded');
    end if;
    -- Admission before the thread, as in an insert: the other way round the two deadlock.
    perform pythonic.promote_held(v_task.user_id);
    delete from public.artifacts a where a.task_id = p_task and a.attempt <> p_attempt;
    if v_task.kind = 'task' then
        insert into public.messages (thread_id, user_id, task_id, role, content)
        values (v_task.thread_id, v_task.user_id, v_task.id, 'assistant', p_answer);
        update public.threads set updated_at = now() where id = v_task.thread_id;
    end if;
    return true;
end
$$;
comment on function pythonic.finish_task(uuid, bigint, integer, text, text, jsonb, jsonb) is
    'Ends a task with its answer and verdict. False: the lease is lost, the result must be dropped.';

create function pythonic.fail_task(
    p_worker uuid, p_task bigint, p_attempt integer, p_error text, p_retryable boolean, p_evidence jsonb, p_usage jsonb)
returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_task public.tasks;
    v_again boolean;
begin
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
        -- 5 s doubled for each failure, a fifth more or less so that many do not come back at once, an hour at most
        run_at = case when v_again
            then now() + make_interval(secs => least(5 * 2 ^ t.failures, 3600) * (0.8 + 0.4 * random()))
            else t.run_at end
    where t.id = p_task;
    perform pythonic.promote_held(v_task.user_id);
    return true;
end
$$;
comment on function pythonic.fail_task(uuid, bigint, integer, text, boolean, jsonb, jsonb) is
    'Ends an attempt that failed: again later while failures are left, else for good. False: the lease is lost.';

create function pythonic.release_task(p_worker uuid, p_task bigint, p_attempt integer) returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
begin
    update public.tasks t set state = 'queued', worker_id = null, lease_until = null
        where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker
            and t.cancel_requested_at is null;
    return found;
end
$$;
comment on function pythonic.release_task(uuid, bigint, integer) is 'Gives an unfinished task back at once, without counting a failure.';

create function pythonic.confirm_cancel(p_worker uuid, p_task bigint, p_attempt integer) returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_user uuid;
begin
    update public.tasks t set state = 'cancelled', finished_at = now(), worker_id = null, lease_until = null
        where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker
            and t.cancel_requested_at is not null
        returning t.user_id into v_user;
    if not found then return false; end if;
    update public.task_steps s set state = 'pending' where s.task_id = p_task and s.state = 'running';
    perform pythonic.promote_held(v_user);
    return true;
end
$$;
comment on function pythonic.confirm_cancel(uuid, bigint, integer) is 'The worker has stopped what was to be cancelled.';

-- ---------------------------------------------------------------------------------------------------------
-- Thin wrappers in public, and who may call them
-- ---------------------------------------------------------------------------------------------------------

create function public.cancel_task(task_id bigint) returns text
    language sql security invoker set search_path = '' as $$ select pythonic.cancel_task(task_id) $$;
comment on function public.cancel_task(bigint) is 'Cancels a task of the caller.';
create function public.retry_task(task_id bigint, from_start boolean default false) returns text
    language sql security invoker set search_path = '' as $$ select pythonic.retry_task(task_id, from_start) $$;
comment on function public.retry_task(bigint, boolean) is 'Queues an ended task of the caller again.';

create function public.claim_tasks(
    worker uuid, queue text, most integer, lease_seconds double precision, held jsonb default '[]') returns jsonb
    language sql security invoker set search_path = ''
    as $$ select pythonic.claim_tasks(worker, queue, most, lease_seconds, held) $$;
comment on function public.claim_tasks(uuid, text, integer, double precision, jsonb) is 'For workers: claims tasks.';
create function public.recover_tasks(worker uuid) returns integer
    language sql security invoker set search_path = '' as $$ select pythonic.recover_tasks(worker) $$;
comment on function public.recover_tasks(uuid) is 'For workers: takes back what a former process of this worker held.';
create function public.heartbeat_tasks(worker uuid, tasks jsonb, lease_seconds double precision) returns jsonb
    language sql security invoker set search_path = '' as $$ select pythonic.heartbeat_tasks(worker, tasks, lease_seconds) $$;
comment on function public.heartbeat_tasks(uuid, jsonb, double precision) is 'For workers: renews leases.';
create function public.append_events(worker uuid, task_id bigint, attempt integer, events jsonb) returns boolean
    language sql security invoker set search_path = '' as $$ select pythonic.append_events(worker, task_id, attempt, events) $$;
comment on function public.append_events(uuid, bigint, integer, jsonb) is 'For workers: stores events.';
create function public.finish_task(worker uuid, task_id bigint, attempt integer, answer text, verdict text,
    evidence jsonb, usage jsonb) returns boolean
    language sql security invoker set search_path = ''
    as $$ select pythonic.finish_task(worker, task_id, attempt, answer, verdict, evidence, usage) $$;
comment on function public.finish_task(uuid, bigint, integer, text, text, jsonb, jsonb) is 'For workers: ends a task with its answer.';
create function public.fail_task(worker uuid, task_id bigint, attempt integer, error text, retryable boolean,
    evidence jsonb, usage jsonb) returns boolean
    language sql security invoker set search_path = ''
    as $$ select pythonic.fail_task(worker, task_id, attempt, error, retryable, evidence, usage) $$;
comment on function public.fail_task(uuid, bigint, integer, text, boolean, jsonb, jsonb) is 'For workers: ends a failed attempt.';
create function public.release_task(worker uuid, task_id bigint, attempt integer) returns boolean
    language sql security invoker set search_path = '' as $$ select pythonic.release_task(worker, task_id, attempt) $$;
comment on function public.release_task(uuid, bigint, integer) is 'For workers: gives a task back.';
create function public.confirm_cancel(worker uuid, task_id bigint, attempt integer) returns boolean
    language sql security invoker set search_path = '' as $$ select pythonic.confirm_cancel(worker, task_id, attempt) $$;
comment on function public.confirm_cancel(uuid, bigint, integer) is 'For workers: a task has been cancelled.';

revoke all on all functions in schema pythonic from public;
revoke all on function public.enqueue_task, public.cancel_task, public.retry_task, public.claim_tasks,
    public.recover_tasks, public.heartbeat_tasks, public.append_events, public.finish_task, public.fail_task, public.release_task,
    public.confirm_cancel from public, anon, authenticated;

grant usage on schema pythonic to authenticated, service_role;
grant execute on function public.enqueue_task to authenticated, service_role;
grant execute on function public.cancel_task, public.retry_task, pythonic.cancel_task, pythonic.retry_task
    to authenticated, service_role;
grant execute on function public.claim_tasks, public.recover_tasks, public.heartbeat_tasks, public.append_events, public.finish_task,
    public.fail_task, public.release_task, public.confirm_cancel to service_role;
grant execute on function pythonic.claim_tasks, pythonic.recover_tasks, pythonic.heartbeat_tasks, pythonic.append_events,
    pythonic.finish_task, pythonic.fail_task, pythonic.release_task, pythonic.confirm_cancel to service_role;
