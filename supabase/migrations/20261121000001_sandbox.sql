-- What a task's code may reach: hosts, limits, tools, secrets, and the variables that earlier tasks left.
-- Nothing is reachable unless a row says so.

-- ---------------------------------------------------------------------------------------------------------
-- What may be written: one sentence for each mistake
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.is_host(p_host text) returns boolean
language sql immutable set search_path = ''
as $$
    -- RFC 1123 labels, at least two; no name ends in a number, because inet_aton(3) would read an address.
    select coalesce(char_length(p_host) <= 253
        and p_host ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$'
        and p_host !~ '[.](0x[0-9a-f]*|[0-9]+)$', false)
$$;
comment on function pythonic.is_host(text) is
    'Whether it is the name of a host in lower case: no address, scheme, port, path or wildcard.';

create function pythonic.hosts_problem(p_hosts text[], p_most integer) returns text
language plpgsql immutable set search_path = ''
as $$
declare
    v_host text;
begin
    if p_hosts is null or coalesce(array_ndims(p_hosts), 1) <> 1 then
        return 'Write the hosts as a list of names, such as {api.github.com}.';
    end if;
    if cardinality(p_hosts) > p_most then
        return format('%s hosts are too many: at most %s can be named.', cardinality(p_hosts), p_most);
    end if;
    foreach v_host in array p_hosts loop
        if pythonic.is_host(v_host) then continue; end if;
        return format('The host %s %s.', coalesce(quote_literal(left(v_host, 100)), 'null'), case
            when v_host like '%://%' then 'has a scheme; write the name alone, such as api.github.com'
            when v_host like '%*%' then 'has a wildcard; name each host by itself'
            when v_host ~ '[/:@]' then 'has more than a name in it; leave path, port and user out'
            when v_host ~ '(^|[.])(0x[0-9a-f]*|[0-9]+)$' then 'is an address; write the host''s name'
            else 'is no host name; write it like api.github.com'
        end);
    end loop;
    return null;
end
$$;
comment on function pythonic.hosts_problem(text[], integer) is 'Why these are no hosts that code may be allowed to reach, or null.';

create function pythonic.limits_problem(p_limits jsonb) returns text
language plpgsql immutable set search_path = ''
as $$
declare
    -- As in pythonic_assistant/domain/limits.py; a test compares both.
    v_least constant jsonb := '{"memory_bytes": 33554432, "processes": 1, "cpu_seconds": 1, "disk_bytes": 1048576,
        "inodes": 16, "output_bytes": 1, "open_files": 32, "seconds": 1, "execution_seconds": 1, "turns": 1,
        "tokens": 1000}';
    v_name text;
    v_value jsonb;
begin
    if p_limits is null or jsonb_typeof(p_limits) <> 'object' then
        return 'Write the limits as an object, such as {"memory_bytes": 1073741824}.';
    end if;
    for v_name, v_value in select l.key, l.value from jsonb_each(p_limits) l loop
        if not v_least ? v_name then
            return format('There is no limit %s; the limits are %s.', quote_literal(left(v_name, 100)),
                (select string_agg(n.name, ', ' order by n.name) from jsonb_object_keys(v_least) as n (name)));
        end if;
        -- 2^50 is the most of any limit
        if jsonb_typeof(v_value) <> 'number' or v_value::text !~ '^[0-9]{1,16}$'
            or v_value::text::numeric not between (v_least ->> v_name)::numeric and 1125899906842624 then
            return format('The limit %s is %s: write a whole number of at least %s.',
                v_name, left(v_value::text, 100), v_least ->> v_name);
        end if;
    end loop;
    return null;
end
$$;
comment on function pythonic.limits_problem(jsonb) is 'Why these are no limits of a task, or null.';

create function pythonic.usual_tools() returns text[]
    language sql immutable set search_path = '' as $$ select '{earlier_tasks,thread_files}'::text[] $$;
comment on function pythonic.usual_tools() is 'The tools of tasks whose assistant says nothing else.';

create function pythonic.tools_problem(p_tools text[]) returns text
language plpgsql immutable set search_path = ''
as $$
declare
    v_tool text;
begin
    if p_tools is null or coalesce(array_ndims(p_tools), 1) <> 1 or cardinality(p_tools) > 50 then
        return 'Write the tools as a list of at most 50 names, such as {earlier_tasks}.';
    end if;
    foreach v_tool in array p_tools loop
        if v_tool is null or v_tool !~ '^[a-z][a-z0-9_]{0,63}$' then
            return format('The tool %s has no name of a tool: write it like earlier_tasks.',
                coalesce(quote_literal(left(v_tool, 100)), 'null'));
        end if;
    end loop;
    return null;
end
$$;
comment on function pythonic.tools_problem(text[]) is 'Why these are no names of tools, or null.';

-- ---------------------------------------------------------------------------------------------------------
-- Hosts, limits and tools of assistants, threads and tasks
-- ---------------------------------------------------------------------------------------------------------

-- The constraints of tasks are evaluated at every heartbeat too: what is empty is not looked into.
alter table public.assistants
    add column hosts text[] not null default '{}',
    add column limits jsonb not null default '{}',
    add column tools text[] not null default pythonic.usual_tools(),
    add constraint assistants_hosts check (hosts = '{}' or pythonic.hosts_problem(hosts, 50) is null),
    add constraint assistants_limits check (limits = '{}' or pythonic.limits_problem(limits) is null),
    add constraint assistants_tools check (pythonic.tools_problem(tools) is null);
comment on column public.assistants.hosts is 'Hosts that code may reach in every task of this assistant, such as api.github.com.';
comment on column public.assistants.limits is 'Limits of its tasks, such as {"memory_bytes": 1073741824, "seconds": 600}; what is not named is the worker''s.';
comment on column public.assistants.tools is 'Tools that code may call.';

alter table public.threads
    add column hosts text[] not null default '{}',
    add constraint threads_hosts check (hosts = '{}' or pythonic.hosts_problem(hosts, 50) is null);
comment on column public.threads.hosts is 'Hosts that code may reach in every task of this thread.';

alter table public.tasks
    add column hosts text[] not null default '{}',
    add column limits jsonb not null default '{}',
    add constraint tasks_hosts check (hosts = '{}' or pythonic.hosts_problem(hosts, 50) is null),
    add constraint tasks_limits check (limits = '{}' or pythonic.limits_problem(limits) is null);
comment on column public.tasks.hosts is 'Hosts that its code may reach, beside those of its thread and its assistant.';
comment on column public.tasks.limits is 'Limits that replace those of the assistant.';

create function pythonic.tidy_hosts(p_hosts text[]) returns text[]
language sql immutable set search_path = ''
as $$
    select coalesce(array_agg(f.host order by f.place), '{}') from (
        select t.host, min(t.place) as place
        from (select rtrim(lower(btrim(h.host)), '.') as host, h.place
              from unnest(p_hosts) with ordinality as h (host, place)) t
        group by t.host) f
$$;
comment on function pythonic.tidy_hosts(text[]) is 'Lower case, no blanks around, no dot at the end, each once.';

create function pythonic.check_access() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    v_problem text;
begin
    new.hosts := pythonic.tidy_hosts(new.hosts);
    v_problem := pythonic.hosts_problem(new.hosts, 50);
    if v_problem is null and tg_table_name in ('assistants', 'tasks') then
        new.limits := coalesce(new.limits, '{}');
        v_problem := pythonic.limits_problem(new.limits);
    end if;
    if v_problem is null and tg_table_name = 'assistants' then
        v_problem := pythonic.tools_problem(new.tools);
    end if;
    if v_problem is not null then
        raise exception '%', v_problem using errcode = 'invalid_parameter_value';
    end if;
    return new;
end
$$;
comment on function pythonic.check_access() is 'Tidies hosts, and says in a sentence what is wrong with hosts, limits or tools.';
create trigger check_access before insert or update of hosts, limits, tools on public.assistants
    for each row execute function pythonic.check_access();
create trigger check_access before insert or update of hosts on public.threads
    for each row when (new.hosts is distinct from '{}') execute function pythonic.check_access();
create trigger check_access before insert or update of hosts, limits on public.tasks
    for each row when (new.hosts is distinct from '{}' or new.limits is distinct from '{}') execute function pythonic.check_access();

grant insert (hosts, limits, tools), update (hosts, limits, tools) on public.assistants to authenticated;
grant insert (hosts), update (hosts) on public.threads to authenticated;
grant insert (hosts, limits) on public.tasks to authenticated;

-- ---------------------------------------------------------------------------------------------------------
-- Secrets
-- ---------------------------------------------------------------------------------------------------------

create table public.secret_keys (
    key_id text primary key check (key_id ~ '^[0-9a-f]{16}$'),
    public_key text not null check (public_key ~ '^[A-Za-z0-9+/]{43}=$'),
    published_at timestamptz not null default now()
);
comment on table public.secret_keys is 'Public keys of workers. Whoever enters a secret seals it to the newest one; only workers can open it.';
comment on column public.secret_keys.key_id is 'The first 16 hex digits of the SHA-256 of the public key.';
comment on column public.secret_keys.public_key is 'X25519, in base64, for sealed boxes of libsodium.';
comment on column public.secret_keys.published_at is 'When a worker that has the private key last started.';

create table public.secrets (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null default auth.uid() references public.profiles (id) on delete cascade,
    name text not null check (name ~ '^[A-Z][A-Z0-9_]{0,63}$'),
    hosts text[] not null,
    raw boolean not null default false,
    ciphertext text not null check (char_length(ciphertext) between 64 and 100000),
    key_id text not null references public.secret_keys (key_id),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    last_used_at timestamptz,
    unique (user_id, name),
    constraint secrets_hosts check (cardinality(hosts) > 0 and pythonic.hosts_problem(hosts, 20) is null)
);
comment on table public.secrets is 'Credentials of people, as ciphertext only. Nobody can read a value back; the worker puts it in on the way out.';
comment on column public.secrets.id is 'Identifier.';
comment on column public.secrets.user_id is 'The person whose secret it is.';
comment on column public.secrets.name is 'The environment variable in which code finds its placeholder, such as GITHUB_TOKEN.';
comment on column public.secrets.hosts is 'The only hosts that get the value.';
comment on column public.secrets.raw is 'Code gets the value itself: for protocols other than HTTP, at the owner''s risk.';
comment on column public.secrets.ciphertext is 'The value in a sealed box for the key, in base64. Written, never read by people.';
comment on column public.secrets.key_id is 'The key that it is sealed to.';
comment on column public.secrets.created_at is 'When it was first entered.';
comment on column public.secrets.updated_at is 'When it was last changed.';
comment on column public.secrets.last_used_at is 'When a request last carried it.';

create function pythonic.is_environment_name(p_name text) returns boolean
language sql immutable set search_path = ''
as $$
    select p_name ~ ('^(PATH|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|IFS|ENV|BASH_ENV|TMP|TEMP|TMPDIR|TZ|TZDIR|LANG|LANGUAGE'
        '|TERM|DISPLAY|HOSTALIASES|LOCALDOMAIN|RES_OPTIONS|NLSPATH|LOCPATH|GCONV_PATH|GETCONF_DIR'
        '|NODE_OPTIONS|NODE_EXTRA_CA_CERTS|NODE_TLS_REJECT_UNAUTHORIZED|OPENSSL_CONF|OPENSSL_MODULES'
        '|AWS_CONFIG_FILE|AWS_SHARED_CREDENTIALS_FILE|AWS_ENDPOINT_URL.*|AWS_CA_BUNDLE|AWS_DATA_PATH'
        '|GIT_SSL_.*|GIT_CONFIG.*|GIT_EXEC_PATH|GIT_SSH.*|GIT_ASKPASS'
        '|(PYTHON|LD_|DYLD_|LC_|SSL_|XDG_|MALLOC_|GLIBC_|MPL|OMP_|OPENBLAS_|MKL_|NUMEXPR_|ARROW_).*'
        '|.*_PROXY|.*_CA_BUNDLE|.*_CAINFO)$')
$$;
comment on function pythonic.is_environment_name(text) is
    'Whether the system or Python itself reads this environment variable, so that no secret may have its name.';

create function pythonic.check_secret() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    v_problem text;
begin
    new.hosts := pythonic.tidy_hosts(new.hosts);
    v_problem := case
        when new.name is null or new.name !~ '^[A-Z][A-Z0-9_]{0,63}$' then
            'Name the secret like an environment variable, such as GITHUB_TOKEN: capitals, digits and _, at most 64.'
        when pythonic.is_environment_name(new.name) then
            format('%s is read by the system itself, so no secret can have this name: choose another.', new.name)
        when cardinality(new.hosts) = 0 then
            'Name at least one host that gets the secret, such as api.github.com.'
        when not exists (select 1 from public.secret_keys k where k.key_id = new.key_id) then
            'The secret is sealed to a key that no worker has published: take the newest of secret_keys.'
        when new.ciphertext is null or new.ciphertext !~ '^[A-Za-z0-9+/]+={0,2}$' then
            'The secret''s ciphertext is no base64: seal its value to the newest of secret_keys.'
        when char_length(new.ciphertext) not between 64 and 100000 then
            'The secret is empty, or longer than 64 KiB.'
        else pythonic.hosts_problem(new.hosts, 20)
    end;
    if v_problem is null and tg_op = 'INSERT'
        and (select count(*) from public.secrets s where s.user_id = new.user_id) >= 200 then
        v_problem := 'There are 200 secrets already: remove one first.';
    end if;
    if v_problem is not null then
        raise exception '%', v_problem using errcode = 'invalid_parameter_value';
    end if;
    new.updated_at := now();
    return new;
end
$$;
comment on function pythonic.check_secret() is 'Tidies hosts, and says in a sentence what is wrong with a secret.';
create trigger check_secret before insert or update of name, hosts, raw, ciphertext, key_id on public.secrets
    for each row execute function pythonic.check_secret();

create function pythonic.set_secret(p_name text, p_hosts text[], p_ciphertext text, p_key_id text, p_raw boolean)
returns void
language plpgsql security definer set search_path = ''
as $$
begin
    if auth.uid() is null then
        raise exception 'Sign in first: a secret belongs to a person.' using errcode = 'insufficient_privilege';
    end if;
    insert into public.secrets as s (user_id, name, hosts, raw, ciphertext, key_id)
    values (auth.uid(), p_name, p_hosts, coalesce(p_raw, false), p_ciphertext, p_key_id)
    on conflict (user_id, name) do update set hosts = excluded.hosts, raw = excluded.raw,
        ciphertext = excluded.ciphertext, key_id = excluded.key_id;
end
$$;
comment on function pythonic.set_secret(text, text[], text, text, boolean) is 'Adds or replaces a secret of the caller.';

create function pythonic.secret_used(p_ids uuid[]) returns void
language sql security definer set search_path = ''
as $$ update public.secrets set last_used_at = now() where id = any (p_ids) $$;
comment on function pythonic.secret_used(uuid[]) is 'Notes that requests carried these secrets.';

-- ---------------------------------------------------------------------------------------------------------
-- Variables
-- ---------------------------------------------------------------------------------------------------------

create table public.variables (
    thread_id uuid not null references public.threads (id) on delete cascade,
    name text not null check (char_length(name) between 1 and 200),
    type text not null check (char_length(type) <= 200),
    shape text not null default '' check (char_length(shape) <= 200),
    bytes bigint not null check (bytes >= 0),
    media_type text not null check (char_length(media_type) between 1 and 200),
    load text not null check (char_length(load) between 1 and 1000),
    storage_path text not null check (char_length(storage_path) between 1 and 1000),
    task_id bigint references public.tasks (id) on delete set null,
    user_id uuid not null references public.profiles (id) on delete cascade,
    updated_at timestamptz not null default now(),
    primary key (thread_id, name)
);
create index variables_of_user on public.variables (user_id, updated_at desc);
create index variables_of_task on public.variables (task_id);
comment on table public.variables is 'Values that tasks kept for later tasks of the thread, as files of plain data in the bucket artifacts.';
comment on column public.variables.thread_id is 'The thread.';
comment on column public.variables.name is 'The variable''s name; a later task that keeps one of the same name replaces it.';
comment on column public.variables.type is 'Such as pandas.DataFrame.';
comment on column public.variables.shape is 'Such as 344 x 7; the length of other containers; else empty.';
comment on column public.variables.bytes is 'Size of the file.';
comment on column public.variables.media_type is 'Of the file: Parquet, npy, JSON or PNG.';
comment on column public.variables.load is 'One line of Python that gives the value back; {path!r} stands for where the file is.';
comment on column public.variables.storage_path is 'Its path in the bucket artifacts; begins with the person''s id.';
comment on column public.variables.task_id is 'The task that last kept it.';
comment on column public.variables.user_id is 'The person whose thread it is.';
comment on column public.variables.updated_at is 'When it was last kept.';

-- ---------------------------------------------------------------------------------------------------------
-- Who may see and change what
-- ---------------------------------------------------------------------------------------------------------

alter table public.secret_keys enable row level security;
alter table public.secrets enable row level security;
alter table public.variables enable row level security;
revoke all on public.secret_keys, public.secrets, public.variables from anon, authenticated;
grant all on public.secret_keys, public.secrets, public.variables to service_role;

grant select on public.secret_keys to authenticated;
-- No select on ciphertext: what was entered cannot be read back, not even sealed. And no update: whoever could
-- change hosts or raw alone would send a value that they do not know to a host of their own. `set_secret` takes
-- all of it together.
grant select (id, user_id, name, hosts, raw, key_id, created_at, updated_at, last_used_at),
    insert (name, hosts, raw, ciphertext, key_id), delete
    on public.secrets to authenticated;
grant select, delete on public.variables to authenticated;

create policy "everyone who is signed in sees the public keys" on public.secret_keys
    for select to authenticated using (true);
create policy "people see their own secrets" on public.secrets
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people add secrets of their own" on public.secrets
    for insert to authenticated with check (user_id = (select auth.uid()));
create policy "people delete their own secrets" on public.secrets
    for delete to authenticated using (user_id = (select auth.uid()));
create policy "people see the variables of their own threads" on public.variables
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people delete the variables of their own threads" on public.variables
    for delete to authenticated using (user_id = (select auth.uid()));

-- ---------------------------------------------------------------------------------------------------------
-- For people: a task with hosts and limits of its own
-- ---------------------------------------------------------------------------------------------------------

-- Dropped, not overloaded: PostgREST cannot choose between two functions of one name whose arguments have defaults.
drop function public.enqueue_task(text, uuid, uuid, jsonb, text, text, smallint, timestamptz, text);
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
    limits jsonb default '{}'
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
            hosts, limits)
        values (enqueue_task.prompt, enqueue_task.thread_id, enqueue_task.assistant_id, enqueue_task.inputs,
            enqueue_task.model, enqueue_task.kind, enqueue_task.priority,
            coalesce(enqueue_task.run_at, now()), enqueue_task.dedupe_key,
            coalesce(enqueue_task.hosts, '{}'), coalesce(enqueue_task.limits, '{}'))
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

-- ---------------------------------------------------------------------------------------------------------
-- For workers
-- ---------------------------------------------------------------------------------------------------------

alter table public.tasks add column asked_attempt integer not null default 0 check (asked_attempt >= 0);
comment on column public.tasks.asked_attempt is 'How many attempts there were when a person last asked for the task again; what they sent counts no more.';

create or replace function pythonic.retry_task(p_task bigint, p_from_start boolean) returns text
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
        started_at = null, finished_at = null, asked_attempt = attempt,
        cancel_requested_at = null, answer = null, verdict = null, evidence = '[]', error = null
    where id = p_task
    returning state into v_task.state;
    return v_task.state;
end
$$;
create or replace function pythonic.claim_tasks(
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
        -- What any of the three allows, each host once.
        'hosts', array(select distinct h.host from unnest(
            c.hosts || coalesce(th.hosts, '{}') || coalesce(a.hosts, '{}')) as h (host) order by h.host),
        'limits', coalesce(a.limits, '{}') || c.limits,
        'tools', coalesce(a.tools, pythonic.usual_tools()),
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

create or replace function pythonic.append_events(p_worker uuid, p_task bigint, p_attempt integer, p_events jsonb)
returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_user uuid;
    v_thread uuid;
    v_event jsonb;
    v_data jsonb;
    v_payload jsonb;
begin
    -- The lock holds off a reaper until these rows are written, so that a later attempt never sees half of them.
    select t.user_id, t.thread_id into v_user, v_thread from public.tasks t
        where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker for share;
    if not found then return false; end if;
    perform set_config('synchronous_commit', case when exists (
        select 1 from jsonb_array_elements(p_events) e where e ->> 'kind' in (
            'plan_made', 'step_finished', 'egress_begun', 'run_succeeded', 'run_failed'))
        then 'on' else 'off' end, true);

    insert into public.task_events (task_id, attempt, seq, user_id, kind, step_id, data, created_at)
    select p_task, p_attempt, (e ->> 'seq')::integer, v_user, e ->> 'kind', e ->> 'step_id',
        coalesce(e -> 'data', '{}'), coalesce((e ->> 'at')::timestamptz, now())
    from jsonb_array_elements(p_events) e
    on conflict (task_id, attempt, seq) do nothing;

    for v_event in
        select e from jsonb_array_elements(p_events) e
        where e ->> 'kind' in ('run_started', 'plan_made', 'step_started', 'step_finished', 'artifact_saved', 'variable_saved')
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
        when 'variable_saved' then
            -- A task of no thread has no later tasks either.
            insert into public.variables (thread_id, name, user_id, task_id, type, shape, bytes, media_type, load,
                storage_path)
            select v_thread, v_data ->> 'name', v_user, p_task, v_data ->> 'type', coalesce(v_data ->> 'shape', ''),
                (v_data ->> 'bytes')::bigint, v_data ->> 'media_type', v_data ->> 'load', v_data ->> 'storage_path'
            where v_thread is not null
            on conflict (thread_id, name) do update set task_id = excluded.task_id, type = excluded.type,
                shape = excluded.shape, bytes = excluded.bytes, media_type = excluded.media_type,
                load = excluded.load, storage_path = excluded.storage_path, updated_at = now();
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
    'Stores events [{"seq", "kind", "step_id", "at", "data"}] of an attempt and what follows from them for steps, artifacts and variables. False: the lease is lost.';

create function pythonic.earlier_tasks(p_user uuid, p_words text, p_limit integer) returns jsonb
language sql stable security definer set search_path = ''
as $$
    with asked as (
        -- Any of the words counts, and more of them count more. English stems harm no other language.
        select replace(plainto_tsquery('pg_catalog.english', left(coalesce(p_words, ''), 1000))::text, '&', '|')::tsquery
            as words
    ), ended as (
        -- The newest thousand: to make words of more texts would take longer than code should wait.
        select t.id, t.prompt, t.answer, t.verdict, t.finished_at,
            to_tsvector('pg_catalog.english', left(t.prompt, 4000) || ' ' || left(coalesce(t.answer, ''), 8000)) as words
        from (select * from public.tasks n
              where n.user_id = p_user and n.kind = 'task' and n.state in ('succeeded', 'failed')
              order by n.id desc limit 1000) t
    ), found as (
        select e.*
        from ended e, asked a
        where numnode(a.words) = 0 or e.words @@ a.words
        order by ts_rank(e.words, a.words) desc, e.id desc
        limit least(greatest(coalesce(p_limit, 5), 0), 50)
    )
    select coalesce(jsonb_agg(jsonb_build_object(
        'id', f.id, 'asked', left(f.prompt, 1000), 'answer', left(f.answer, 4000), 'verdict', f.verdict,
        'finished_at', f.finished_at) order by f.id desc), '[]')
    from found f
$$;
comment on function pythonic.earlier_tasks(uuid, text, integer) is
    'Ended tasks of a person that have any of the words in prompt or answer: the best, the newest first; without words the last ones.';

create function pythonic.thread_files(p_thread uuid) returns jsonb
language sql stable security definer set search_path = ''
as $$
    select coalesce(jsonb_agg(f.file order by f.id desc), '[]') from (
        select a.id, jsonb_build_object(
            'name', a.name, 'media_type', a.media_type, 'bytes', a.bytes, 'task_id', a.task_id) as file
        from public.artifacts a join public.tasks t on t.id = a.task_id
        where t.thread_id = p_thread
        order by a.id desc limit 200) f
$$;
comment on function pythonic.thread_files(uuid) is 'Files that tasks of a thread left, the newest first.';

-- ---------------------------------------------------------------------------------------------------------
-- Thin wrappers in public, and who may call them
-- ---------------------------------------------------------------------------------------------------------

create function public.set_secret(name text, hosts text[], ciphertext text, key_id text, raw boolean default false)
    returns void language sql security invoker set search_path = ''
    as $$ select pythonic.set_secret(name, hosts, ciphertext, key_id, raw) $$;
comment on function public.set_secret(text, text[], text, text, boolean) is
    'Adds or replaces a secret of the caller; its value is sealed to the newest of secret_keys.';
create function public.secret_used(ids uuid[]) returns void
    language sql security invoker set search_path = '' as $$ select pythonic.secret_used(ids) $$;
comment on function public.secret_used(uuid[]) is 'For workers: notes that requests carried these secrets.';
create function public.earlier_tasks(person uuid, words text, most integer) returns jsonb
    language sql security invoker set search_path = '' as $$ select pythonic.earlier_tasks(person, words, most) $$;
comment on function public.earlier_tasks(uuid, text, integer) is 'For workers: ended tasks of a person that have any of the words.';
create function public.thread_files(thread uuid) returns jsonb
    language sql security invoker set search_path = '' as $$ select pythonic.thread_files(thread) $$;
comment on function public.thread_files(uuid) is 'For workers: files that tasks of a thread left.';

revoke all on function pythonic.is_host, pythonic.hosts_problem, pythonic.limits_problem, pythonic.tools_problem,
    pythonic.usual_tools, pythonic.tidy_hosts, pythonic.check_access, pythonic.is_environment_name,
    pythonic.check_secret, pythonic.set_secret, pythonic.secret_used, pythonic.earlier_tasks, pythonic.thread_files
    from public;
revoke all on function public.enqueue_task, public.set_secret, public.secret_used, public.earlier_tasks,
    public.thread_files from public, anon, authenticated;

-- Constraints and defaults are evaluated with the rights of whoever writes the row.
grant execute on function pythonic.is_host, pythonic.hosts_problem, pythonic.limits_problem, pythonic.tools_problem,
    pythonic.usual_tools to authenticated, service_role;
grant execute on function public.enqueue_task to authenticated, service_role;
grant execute on function public.set_secret, pythonic.set_secret to authenticated;
grant execute on function public.secret_used, public.earlier_tasks, public.thread_files, pythonic.secret_used,
    pythonic.earlier_tasks, pythonic.thread_files to service_role;
