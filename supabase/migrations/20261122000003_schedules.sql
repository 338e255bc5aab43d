-- Schedules: tasks that come again. SQL knows no cron, so workers compute times, and this file sees to it that each
-- due time makes exactly one task: whoever fires names the state that it computed from, and it must still be so.
--
-- Locks come in the one order of the queue: admission lock of the person, thread, schedule. A worker waits for none
-- of them, because schedules of many people are dealt with in one call.

create table public.schedules (
    id uuid primary key default gen_random_uuid(),
    name text not null default '' check (char_length(name) <= 200),
    prompt text not null check (char_length(prompt) between 1 and 19000),
    cron text not null check (char_length(cron) between 1 and 200),
    time_zone text not null default 'UTC' check (char_length(time_zone) between 1 and 100),
    missed text not null default 'skip' check (missed in ('skip', 'catch_up_once')),
    paused_at timestamptz,
    problem text check (char_length(problem) <= 2000),

    next_at timestamptz,
    last_at timestamptz,
    last_task_id bigint,
    skipped integer not null default 0 check (skipped >= 0),
    skipped_at timestamptz,

    user_id uuid not null default auth.uid() references public.profiles (id) on delete cascade,
    assistant_id uuid references public.assistants (id) on delete set null,
    thread_id uuid references public.threads (id) on delete set null,
    inputs jsonb not null default '[]' check (jsonb_typeof(inputs) = 'array' and jsonb_array_length(inputs) <= 50),
    model text check (char_length(model) between 1 and 200),
    labels text[] not null default '{}',
    priority smallint not null default 0 check (priority between -100 and 100),
    hosts text[] not null default '{}',
    limits jsonb not null default '{}' check (jsonb_typeof(limits) = 'object'),

    planned_from timestamptz not null default clock_timestamp(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint schedules_labels check (labels = '{}' or pythonic.labels_problem(labels) is null),
    constraint paused_is_not_due check (paused_at is null or next_at is null),
    constraint problem_is_not_due check (problem is null or next_at is null)
) with (fillfactor = 80);
create index schedules_due on public.schedules (next_at) where next_at is not null;
create index schedules_unplanned on public.schedules (planned_from)
    where next_at is null and paused_at is null and problem is null;
create index schedules_of_user on public.schedules (user_id, created_at);
create index schedules_of_assistant on public.schedules (assistant_id) where assistant_id is not null;
create index schedules_of_thread on public.schedules (thread_id) where thread_id is not null;
comment on table public.schedules is 'Tasks that come again: at each time that cron names, a worker adds one task. Insert a row with a prompt and a cron expression and it runs.';
comment on column public.schedules.id is 'Identifier.';
comment on column public.schedules.name is 'Shown in lists; made from the prompt when left empty.';
comment on column public.schedules.prompt is 'What each of its tasks is asked.';
comment on column public.schedules.cron is 'Five fields: minute, hour, day of the month, month, day of the week, such as 0 8 * * 1-5. L is the last day, LW the last weekday, 1#2 the second Monday.';
comment on column public.schedules.time_zone is 'The zone in which cron is meant, such as Europe/Berlin.';
comment on column public.schedules.missed is 'What happens to runs that no worker could start in time: skip, or catch_up_once, one task for all of them.';
comment on column public.schedules.paused_at is 'Since when it makes no tasks; null while it does.';
comment on column public.schedules.problem is 'Why it makes no tasks, and what to do. Changing the row clears it.';
comment on column public.schedules.next_at is 'The next time that makes a task; null until a worker has computed it, and while paused.';
comment on column public.schedules.last_at is 'The due time of the last task that it made.';
comment on column public.schedules.last_task_id is 'The last task that it made; it may have been deleted since.';
comment on column public.schedules.skipped is 'How many runs were missed and not made up for.';
comment on column public.schedules.skipped_at is 'The due time of the last of those.';
comment on column public.schedules.user_id is 'Whose schedule it is. Left empty in the dashboard, it is the only person there is.';
comment on column public.schedules.assistant_id is 'The assistant of its tasks; null means the default one.';
comment on column public.schedules.thread_id is 'The thread that its tasks come in; null means a new one for each.';
comment on column public.schedules.inputs is 'Files of the person in Storage, as in tasks.inputs; each task gets them.';
comment on column public.schedules.model is 'The model of its tasks, as in tasks.model.';
comment on column public.schedules.labels is 'The labels of its tasks, as in tasks.labels.';
comment on column public.schedules.priority is 'The priority of its tasks, as in tasks.priority.';
comment on column public.schedules.hosts is 'Hosts that code of its tasks may reach, as in tasks.hosts.';
comment on column public.schedules.limits is 'Limits of its tasks, as in tasks.limits.';
comment on column public.schedules.planned_from is 'Due times after this one count: when it was made, resumed, or last given other times.';
comment on column public.schedules.created_at is 'When it was made.';
comment on column public.schedules.updated_at is 'When somebody last changed it.';

alter table public.tasks
    add column schedule_id uuid,
    add column due_at timestamptz;
create index tasks_of_schedule on public.tasks (schedule_id, id desc) where schedule_id is not null;
comment on column public.tasks.schedule_id is 'The schedule that made it, which may have been deleted since; null for a task that was asked by itself.';
comment on column public.tasks.due_at is 'The due time that its schedule made it for; null when somebody ran the schedule by hand.';

-- ---------------------------------------------------------------------------------------------------------
-- Who may see and change what
-- ---------------------------------------------------------------------------------------------------------

alter table public.schedules enable row level security;
revoke all on public.schedules from anon, authenticated;
grant all on public.schedules to service_role;
grant select, delete on public.schedules to authenticated;
grant insert (name, prompt, cron, time_zone, missed, paused_at, assistant_id, thread_id, inputs, model, labels, priority,
        hosts, limits),
    update (name, prompt, cron, time_zone, missed, paused_at, assistant_id, thread_id, inputs, model, labels, priority,
        hosts, limits)
    on public.schedules to authenticated;

create policy "people see their own schedules" on public.schedules
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people add schedules of their own" on public.schedules
    for insert to authenticated with check (user_id = (select auth.uid()));
create policy "people change their own schedules" on public.schedules
    for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "people delete their own schedules" on public.schedules
    for delete to authenticated using (user_id = (select auth.uid()));

-- ---------------------------------------------------------------------------------------------------------
-- What a person writes
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.check_schedule() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    v_people uuid[];
    v_problem text;
    v_file jsonb;
begin
    if new.user_id is null then
        select array_agg(p.id) into v_people from (select id from public.profiles limit 2) p;
        if coalesce(array_length(v_people, 1), 0) <> 1 then
            raise exception 'Set user_id: there is not exactly one person whose schedule this could be.'
                using errcode = 'not_null_violation';
        end if;
        new.user_id := v_people[1];
    end if;
    if new.prompt is null or btrim(new.prompt) = '' then
        raise exception 'The prompt is empty: write what should be done each time.'
            using errcode = 'invalid_parameter_value';
    end if;
    if char_length(new.prompt) > 19000 then
        raise exception 'The prompt has % characters; at most 19,000 are allowed. Put long material into a file.',
            char_length(new.prompt) using errcode = 'invalid_parameter_value';
    end if;
    if btrim(coalesce(new.name, '')) = '' then
        new.name := left(btrim(regexp_replace(new.prompt, '\s+', ' ', 'g')), 80);
    end if;
    if btrim(coalesce(new.cron, '')) = '' then
        raise exception 'Say when: write five fields into cron, such as 0 8 * * 1-5 for every weekday at 8.'
            using errcode = 'invalid_parameter_value';
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
        -- All else of a file is looked at when a task gets it; the owner already here, for files are kept for a schedule.
        if coalesce(v_file ->> 'storage_path', '') not like new.user_id::text || '/%' then
            raise exception 'Each of inputs needs a name and a storage_path that begins with the person''s id.'
                using errcode = 'invalid_parameter_value';
        end if;
    end loop;
    new.labels := pythonic.tidy_labels(coalesce(new.labels, '{}'));
    new.hosts := pythonic.tidy_hosts(coalesce(new.hosts, '{}'));
    new.limits := coalesce(new.limits, '{}');
    v_problem := coalesce(pythonic.labels_problem(new.labels), pythonic.hosts_problem(new.hosts, 50),
        pythonic.limits_problem(new.limits));
    if v_problem is not null then
        raise exception '%', v_problem using errcode = 'invalid_parameter_value';
    end if;
    if auth.uid() is not null then
        new.priority := greatest(least(coalesce(new.priority, 0), 10), -10);
    end if;

    new.updated_at := now();
    if tg_op = 'INSERT' then
        if (select count(*) from public.schedules s where s.user_id = new.user_id) >= 200 then
            raise exception 'You have 200 schedules, which is as many as there can be: remove one first.'
                using errcode = 'invalid_parameter_value';
        end if;
        new.created_at := now();
        new.last_at := null;
        new.last_task_id := null;
        new.skipped := 0;
        new.skipped_at := null;
    elsif new.cron = old.cron and new.time_zone = old.time_zone and old.problem is null
        and (new.paused_at is null) = (old.paused_at is null) then
        return new;  -- other words or files at the same times
    end if;
    -- Other times: a worker computes the next one. Not now(), which is the same for two changes in one transaction.
    new.problem := null;
    new.next_at := null;
    new.planned_from := clock_timestamp();
    return new;
end
$$;
comment on function pythonic.check_schedule() is 'Trigger: says in a sentence what is wrong with a schedule, and lets a worker plan one whose times are others.';
create trigger check_schedule before insert or update of user_id, name, prompt, cron, time_zone, missed, paused_at,
        assistant_id, thread_id, inputs, model, labels, priority, hosts, limits on public.schedules
    for each row execute function pythonic.check_schedule();

create function pythonic.schedule_to_plan() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    perform pythonic.tell('queue', 'schedules', '{}');
    return null;
end
$$;
comment on function pythonic.schedule_to_plan() is 'Trigger: wakes the workers, because somebody has to compute when a schedule is due.';
create trigger schedule_to_plan after insert or update on public.schedules
    for each row when (new.next_at is null and new.paused_at is null and new.problem is null)
    execute function pythonic.schedule_to_plan();

-- Files that a schedule gives to its tasks outlive each of them, and go with the schedule.
create function pythonic.forget_schedule_files() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into public.file_removals (path)
    select f.file ->> 'storage_path' from jsonb_array_elements(old.inputs) as f (file)
        where char_length(f.file ->> 'storage_path') between 1 and 1000
    on conflict (path) do nothing;
    return null;
end
$$;
comment on function pythonic.forget_schedule_files() is 'Trigger: the files of a schedule that went, or that has others now, are to be removed unless a row needs them.';
create trigger forget_files after delete on public.schedules
    for each row when (old.inputs <> '[]') execute function pythonic.forget_schedule_files();
create trigger forget_replaced_files after update of inputs on public.schedules
    for each row when (old.inputs <> new.inputs) execute function pythonic.forget_schedule_files();

create or replace function pythonic.is_file_needed(p_path text) returns boolean
language sql stable security definer set search_path = ''
as $$
    with owner as (
        select case when p_path ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/' then left(p_path, 36)::uuid end as id
    )
    select exists (select 1 from public.artifacts a where a.storage_path = p_path)
        or exists (select 1 from public.variables v where v.storage_path = p_path)
        -- A file that a person gave may have been given to several tasks.
        or exists (
            select 1 from public.tasks t
            where t.user_id = (select o.id from owner o)
                and t.inputs @> jsonb_build_array(jsonb_build_object('storage_path', p_path)))
        or exists (
            select 1 from public.schedules s
            where s.user_id = (select o.id from owner o)
                and s.inputs @> jsonb_build_array(jsonb_build_object('storage_path', p_path)))
$$;

-- ---------------------------------------------------------------------------------------------------------
-- Firing
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.add_task_of(p_schedule public.schedules, p_key text, p_due timestamptz, p_note text)
returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    v_task bigint;
begin
    insert into public.tasks (user_id, prompt, thread_id, assistant_id, inputs, model, labels, priority, hosts, limits,
        dedupe_key, schedule_id, due_at)
    values (p_schedule.user_id,
        left(p_schedule.prompt, 20000 - char_length(coalesce(p_note, ''))) || coalesce(p_note, ''),
        p_schedule.thread_id, p_schedule.assistant_id, p_schedule.inputs, p_schedule.model, p_schedule.labels,
        p_schedule.priority, p_schedule.hosts, p_schedule.limits, p_key, p_schedule.id, p_due)
    on conflict do nothing
    returning id into v_task;
    if v_task is null then
        select t.id into v_task from public.tasks t
            where t.user_id = p_schedule.user_id and t.dedupe_key = p_key order by t.id desc limit 1;
    end if;
    return v_task;
end
$$;
comment on function pythonic.add_task_of(public.schedules, text, timestamptz, text) is 'Adds a task of a schedule; the one that is there when its key was used.';

create function pythonic.carry_out_plan(p_plan jsonb) returns text
language plpgsql security definer set search_path = ''
as $$
declare
    v_id uuid := (p_plan ->> 'id')::uuid;
    v_was timestamptz := (p_plan ->> 'was')::timestamptz;
    v_due timestamptz := (p_plan ->> 'due_at')::timestamptz;
    v_next timestamptz := (p_plan ->> 'next_at')::timestamptz;
    v_skipped integer := coalesce((p_plan ->> 'skipped')::integer, 0);
    v_user uuid;
    v_thread uuid;
    v_row public.schedules;
    v_task bigint;
begin
    if v_due > now() or v_next <= coalesce(v_due, v_was) then
        raise exception 'This plan does not go forward in time.' using errcode = 'invalid_parameter_value';
    end if;
    select s.user_id, s.thread_id into v_user, v_thread from public.schedules s where s.id = v_id;
    if not found then return 'gone'; end if;
    if v_due is not null and not pythonic.try_admission(v_user) then return 'busy'; end if;
    if v_due is not null and v_thread is not null then
        perform 1 from public.threads th where th.id = v_thread for key share skip locked;
        if not found then return 'busy'; end if;  -- somebody deletes it just now
    end if;
    select s.* into v_row from public.schedules s where s.id = v_id for update skip locked;
    if not found then return 'busy'; end if;
    if v_row.next_at is distinct from v_was or v_row.planned_from <> (p_plan ->> 'planned_from')::timestamptz
        or v_row.paused_at is not null or v_row.problem is not null then
        return 'stale';
    end if;
    if p_plan ->> 'problem' is not null then
        update public.schedules s set problem = left(p_plan ->> 'problem', 2000), next_at = null where s.id = v_id;
        return 'problem';
    end if;
    begin
        if v_due is not null then
            -- The time in UTC, whatever the session's zone: it is a name.
            v_task := pythonic.add_task_of(v_row, 'schedule:' || v_id::text || ':'
                || to_char(v_due at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), v_due, p_plan ->> 'note');
        end if;
    exception when others then
        -- What a task refuses, such as files of somebody else, it would refuse each time.
        if sqlstate ~ '^(08|25|40|53|54|55|57|58|XX)' then raise; end if;
        update public.schedules s set next_at = null,
            problem = left('Its task was refused: ' || sqlerrm || ' Change the schedule.', 2000) where s.id = v_id;
        return 'problem';
    end;
    update public.schedules s set
        next_at = v_next,
        last_at = coalesce(v_due, s.last_at),
        last_task_id = coalesce(v_task, s.last_task_id),
        skipped = s.skipped + v_skipped,
        skipped_at = case when v_skipped > 0 then (p_plan ->> 'skipped_at')::timestamptz else s.skipped_at end
    where s.id = v_id;
    return case when v_due is null then 'planned' else 'fired' end;
end
$$;
comment on function pythonic.carry_out_plan(jsonb) is
    'Does for one schedule what a worker computed, if it is still as the worker saw it: fired, planned, problem; else stale, busy or gone, and nothing is changed.';

create function pythonic.fire_schedules(p_plans jsonb, p_most integer) returns jsonb
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_done jsonb;
    v_due jsonb;
    v_busy text[];
    v_seconds double precision;
begin
    select coalesce(jsonb_agg(jsonb_build_object('id', p.plan ->> 'id', 'outcome', pythonic.carry_out_plan(p.plan))
            order by p.place), '[]')
    into v_done from jsonb_array_elements(p_plans) with ordinality as p (plan, place);
    v_busy := array(select d ->> 'id' from jsonb_array_elements(v_done) d where d ->> 'outcome' = 'busy');
    select coalesce(jsonb_agg(to_jsonb(d)), '[]') into v_due from (
        (select s.id, s.cron, s.time_zone, s.missed, s.planned_from, s.next_at from public.schedules s
            where s.next_at <= now() and s.id::text <> all (v_busy) order by s.next_at limit p_most)
        union all
        (select s.id, s.cron, s.time_zone, s.missed, s.planned_from, null from public.schedules s
            where s.next_at is null and s.paused_at is null and s.problem is null and s.id::text <> all (v_busy)
            order by s.planned_from limit p_most)
        limit p_most) d;
    select greatest(extract(epoch from s.next_at - clock_timestamp()), 0) into v_seconds from public.schedules s
        where s.next_at > now() order by s.next_at limit 1;
    if v_busy <> '{}' then
        v_seconds := least(v_seconds, 0.5);
    end if;
    return jsonb_build_object('now', now(), 'done', v_done, 'due', v_due, 'next_due_seconds', v_seconds);
end
$$;
comment on function pythonic.fire_schedules(jsonb, integer) is
    'Carries out plans [{"id", "planned_from", "was", "next_at", "due_at", "note", "skipped", "skipped_at", "problem"}], then names the schedules that need a plan now, and the seconds until the next one will.';

create function pythonic.run_schedule(p_schedule uuid, p_key text) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    v_row public.schedules;
    v_key text := 'schedule:' || p_schedule::text || ':now:' || left(p_key, 100);
    v_task bigint;
begin
    select s.* into v_row from public.schedules s
        where s.id = p_schedule and (auth.uid() is null or s.user_id = auth.uid());
    if not found then
        raise exception 'There is no such schedule of yours.' using errcode = 'insufficient_privilege';
    end if;
    -- The index knows only of live tasks; this one may have ended by the time a lost answer is asked for again.
    select t.id into v_task from public.tasks t
        where t.schedule_id = p_schedule and t.user_id = v_row.user_id and t.dedupe_key = v_key order by t.id desc limit 1;
    return coalesce(v_task, pythonic.add_task_of(v_row, v_key, null, ''));
end
$$;
comment on function pythonic.run_schedule(uuid, text) is 'Adds a task of a schedule of the caller now; with a key that was used before, the task that is there. Its times stay as they are.';

-- ---------------------------------------------------------------------------------------------------------
-- Thin wrappers in public, and who may call them
-- ---------------------------------------------------------------------------------------------------------

create function public.fire_schedules(plans jsonb default '[]', most integer default 20) returns jsonb
    language sql security invoker set search_path = '' as $$ select pythonic.fire_schedules(plans, most) $$;
comment on function public.fire_schedules(jsonb, integer) is 'For workers: carries out plans for schedules, and says which need one.';
create function public.run_schedule(schedule_id uuid, dedupe_key text) returns bigint
    language sql security invoker set search_path = '' as $$ select pythonic.run_schedule(schedule_id, dedupe_key) $$;
comment on function public.run_schedule(uuid, text) is 'Adds a task of a schedule now.';
create function public.schedule_runs(most integer default 5) returns table (
        schedule_id uuid, id bigint, state text, verdict text, due_at timestamptz, created_at timestamptz,
        finished_at timestamptz, thread_id uuid)
    language sql stable security invoker set search_path = ''
    as $$
    select s.id, r.* from public.schedules s cross join lateral (
        select t.id, t.state, t.verdict, t.due_at, t.created_at, t.finished_at, t.thread_id from public.tasks t
        where t.schedule_id = s.id order by t.id desc limit least(greatest(most, 1), 50)) r
    order by s.created_at, r.id desc
$$;
comment on function public.schedule_runs(integer) is 'The last tasks of each schedule that the caller may see, the newest first.';

revoke all on function pythonic.check_schedule, pythonic.schedule_to_plan, pythonic.forget_schedule_files,
    pythonic.add_task_of, pythonic.carry_out_plan, pythonic.fire_schedules, pythonic.run_schedule from public;
revoke all on function public.fire_schedules, public.run_schedule, public.schedule_runs from public, anon, authenticated;
grant execute on function public.fire_schedules, pythonic.fire_schedules to service_role;
grant execute on function public.run_schedule, pythonic.run_schedule, public.schedule_runs to authenticated, service_role;
