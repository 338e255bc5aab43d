-- Breakpoints that only the drill puts into its own database. A transaction that comes to an armed place stops there
-- until the drill lets it go on, or ends it; meanwhile it holds a lock by which the drill knows that it is there.

create schema drill;
create table drill.arms (
    id integer generated always as identity primary key,
    task bigint not null,
    place text not null,
    armed boolean not null default true
);
create index on drill.arms (task) where armed;

create function drill.stop_at(p_task bigint, p_place text) returns void
language plpgsql security definer set search_path = '' as $$
declare
    v_arm integer;
begin
    select a.id into v_arm from drill.arms a where a.task = p_task and a.place = p_place and a.armed order by a.id limit 1;
    if not found then return; end if;
    perform pg_advisory_xact_lock_shared(7411, v_arm);
    while exists (select 1 from drill.arms a where a.id = v_arm and a.armed) loop
        perform pg_sleep(0.01);
    end loop;
end
$$;

create function drill.of_task() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    perform drill.stop_at(new.id, case
        when new.state = 'running' then 'claim'
        when new.state = 'succeeded' then 'finish'
        when new.state = 'waiting' then 'task put aside'
        when new.state = 'scheduled' then 'failure recorded'
        when new.state = 'queued' and old.state = 'running' then 'task taken back' end);
    return null;
end
$$;
create trigger drill after update of state on public.tasks
    for each row when (old.state is distinct from new.state) execute function drill.of_task();

create function drill.of_event() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    perform drill.stop_at(new.task_id, 'event ' || new.kind);
    return null;
end
$$;
create trigger drill after insert on public.task_events for each row execute function drill.of_event();

create function drill.of_effect() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    perform drill.stop_at(new.task_id, case
        when new.state = 'started' then 'effect begun'
        when new.state = 'succeeded' and old.state = 'started' then 'effect recorded' end);
    return null;
end
$$;
create trigger drill after insert or update of state on public.effects for each row execute function drill.of_effect();

create function drill.of_approval() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    perform drill.stop_at(new.task_id, case when new.state = 'pending' then 'effect asked for' else 'decision' end);
    return null;
end
$$;
create trigger drill after insert or update of state on public.approvals
    for each row execute function drill.of_approval();

create function drill.of_file() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    if split_part(new.name, '/', 2) = 'tasks' then
        perform drill.stop_at(split_part(new.name, '/', 3)::bigint, 'file uploaded');
    end if;
    return null;
end
$$;
create trigger drill after insert or update on storage.objects for each row execute function drill.of_file();
