-- Events that need not last are answered before they are on the disk, so a database that is killed may forget some.
-- Whoever sends the next ones says which must be there already, and sends the forgotten ones again.

drop function public.append_events(uuid, bigint, integer, jsonb);
drop function pythonic.append_events(uuid, bigint, integer, jsonb);

create function pythonic.append_events(
    p_worker uuid, p_task bigint, p_attempt integer, p_events jsonb, p_after integer)
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
    if p_after is not null and not exists (select 1 from public.task_events e
        where e.task_id = p_task and e.attempt = p_attempt and e.seq = p_after) then
        return null;
    end if;
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
comment on function pythonic.append_events(uuid, bigint, integer, jsonb, integer) is
    'Stores events of an attempt, each number once, and what follows from them. False: the lease is lost. Null: nothing is stored, because the event numbered p_after is not there.';

create function public.append_events(
    worker uuid, task_id bigint, attempt integer, events jsonb, after integer default null) returns boolean
    language sql security invoker set search_path = ''
    as $$ select pythonic.append_events(worker, task_id, attempt, events, after) $$;
comment on function public.append_events(uuid, bigint, integer, jsonb, integer) is
    'For workers: stores events; with after, only if the event of that number is stored, else null.';
revoke all on function public.append_events, pythonic.append_events from public, anon, authenticated;
grant execute on function public.append_events, pythonic.append_events to service_role;
