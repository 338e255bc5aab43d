-- Files in Storage whose rows are gone, or point elsewhere now: remembered by triggers, removed by workers.
-- Paths name the attempt, so that a row never points to bytes of another one:
--   <user id>/uploads/<random>/<name>
--   <user id>/tasks/<task id>/<attempt>/<name>
--   <user id>/variables/<thread id>/<task id>-<attempt>/<name>

create table public.file_removals (
    path text primary key check (char_length(path) between 1 and 1000),
    due_at timestamptz not null default now() + interval '1 hour',
    tries integer not null default 0 check (tries >= 0),
    created_at timestamptz not null default now()
);
create index file_removals_due on public.file_removals (due_at);
comment on table public.file_removals is 'Files of the bucket artifacts that no row needs any more. Workers remove them and then their rows here.';
comment on column public.file_removals.path is 'Of a file; with a slash at its end, of all files below it.';
comment on column public.file_removals.due_at is 'Not before this time: a run that has just begun may still fetch the file.';
comment on column public.file_removals.tries is 'How often a worker was told to remove it; the pause doubles each time.';
comment on column public.file_removals.created_at is 'When its row went.';
alter table public.file_removals enable row level security;
revoke all on public.file_removals from anon, authenticated;
grant all on public.file_removals to service_role;

create index artifacts_of_path on public.artifacts (storage_path);
create index variables_of_path on public.variables (storage_path);

create function pythonic.forget_file() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into public.file_removals (path) values (old.storage_path) on conflict (path) do nothing;
    return null;
end
$$;
comment on function pythonic.forget_file() is 'Trigger: the file of a row that went, or that names another one now, is to be removed.';

create trigger forget_file after delete on public.artifacts
    for each row execute function pythonic.forget_file();
create trigger forget_replaced_file after update of storage_path on public.artifacts
    for each row when (old.storage_path <> new.storage_path) execute function pythonic.forget_file();
create trigger forget_file after delete on public.variables
    for each row execute function pythonic.forget_file();
create trigger forget_replaced_file after update of storage_path on public.variables
    for each row when (old.storage_path <> new.storage_path) execute function pythonic.forget_file();

create function pythonic.forget_task_files() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    -- All that its attempts left, also what one stored and then could not tell of; and what it was given.
    insert into public.file_removals (path)
    select old.user_id::text || '/tasks/' || old.id || '/' where old.attempt > 0
    union
    select f.file ->> 'storage_path' from jsonb_array_elements(old.inputs) as f (file)
        where char_length(f.file ->> 'storage_path') between 1 and 1000
    on conflict (path) do nothing;
    return null;
end
$$;
comment on function pythonic.forget_task_files() is 'Trigger: the files of a task that went are to be removed.';
create trigger forget_files after delete on public.tasks
    for each row execute function pythonic.forget_task_files();

create function pythonic.forget_thread_files() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into public.file_removals (path) values (old.user_id::text || '/variables/' || old.id::text || '/')
    on conflict (path) do nothing;
    return null;
end
$$;
comment on function pythonic.forget_thread_files() is 'Trigger: the variables of a thread that went are to be removed.';
create trigger forget_files after delete on public.threads
    for each row execute function pythonic.forget_thread_files();

create function pythonic.is_file_needed(p_path text) returns boolean
language sql stable security definer set search_path = ''
as $$
    select exists (select 1 from public.artifacts a where a.storage_path = p_path)
        or exists (select 1 from public.variables v where v.storage_path = p_path)
        -- A file that a person gave may have been given to several tasks.
        or exists (
            select 1 from public.tasks t
            where t.user_id = case
                    when p_path ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/'
                    then left(p_path, 36)::uuid end
                and t.inputs @> jsonb_build_array(jsonb_build_object('storage_path', p_path)))
$$;
comment on function pythonic.is_file_needed(text) is 'Whether a row still names this file.';

create function pythonic.files_of(p_path text) returns setof text
language sql stable security definer set search_path = ''
as $$
    select o.name from storage.objects o where o.bucket_id = 'artifacts' and o.name = p_path
    union all
    -- Byte by byte, as an index on prefixes does; 0 comes after the slash.
    select o.name from storage.objects o where o.bucket_id = 'artifacts' and right(p_path, 1) = '/'
        and o.name operator(pg_catalog.~>=~) p_path
        and o.name operator(pg_catalog.~<~) (left(p_path, -1) || '0')
$$;
comment on function pythonic.files_of(text) is 'The files in the bucket artifacts at a path, or below one that ends with a slash.';

create function pythonic.due_removals(p_most integer) returns text[]
language plpgsql security definer set search_path = ''
as $$
declare
    v_paths text[];
    v_names text[];
begin
    -- Rows of files that are gone cost a look only, so many of them may come before one that is there.
    for v_round in 1..100 loop
        -- Whoever else looks now takes others; whatever is not removed comes again later.
        with due as (
            select r.path from public.file_removals r where r.due_at <= now()
            order by r.due_at limit least(greatest(p_most, 1), 1000) for update skip locked
        ), taken as (
            update public.file_removals r set tries = r.tries + 1,
                due_at = now() + least(interval '10 minutes' * 2 ^ least(r.tries, 10), interval '1 day')
            from due where r.path = due.path
            returning r.path
        )
        select array_agg(t.path) into v_paths from taken t;
        exit when v_paths is null;

        -- Done: what is gone, and what a row names again.
        delete from public.file_removals r where r.path = any(v_paths)
            and (not exists (select 1 from pythonic.files_of(r.path)) or pythonic.is_file_needed(r.path));

        select array_agg(distinct f.name) into v_names from (
            select n.name from public.file_removals r, pythonic.files_of(r.path) as n (name)
            where r.path = any(v_paths) and not pythonic.is_file_needed(n.name)
            limit 1000) f;
        exit when v_names is not null;
    end loop;
    return coalesce(v_names, '{}');
end
$$;
comment on function pythonic.due_removals(integer) is
    'Names of files that are to be removed from the bucket artifacts now, of at most n rows; they come again later unless they are gone by then.';

create function public.due_removals(most integer) returns text[]
    language sql security invoker set search_path = '' as $$ select pythonic.due_removals(most) $$;
comment on function public.due_removals(integer) is 'For workers: files that are to be removed from the bucket artifacts.';

revoke all on function pythonic.forget_file, pythonic.forget_task_files, pythonic.forget_thread_files,
    pythonic.is_file_needed, pythonic.files_of, pythonic.due_removals from public;
revoke all on function public.due_removals from public, anon, authenticated;
grant execute on function public.due_removals, pythonic.due_removals to service_role;
