-- Who may see and change what. The page uses the person's token, so these rules are the boundary between
-- people. Run state is written by the queue functions alone: no policy and no grant lets a person write it.

alter table public.profiles enable row level security;
alter table public.assistants enable row level security;
alter table public.threads enable row level security;
alter table public.tasks enable row level security;
alter table public.messages enable row level security;
alter table public.task_steps enable row level security;
alter table public.task_events enable row level security;
alter table public.artifacts enable row level security;

-- Hosted projects grant everything on new tables to anon and authenticated; start from nothing instead.
revoke all on public.profiles, public.assistants, public.threads, public.tasks, public.messages,
    public.task_steps, public.task_events, public.artifacts from anon, authenticated;
grant all on public.profiles, public.assistants, public.threads, public.tasks, public.messages,
    public.task_steps, public.task_events, public.artifacts to service_role;

grant select on public.profiles, public.assistants, public.threads, public.tasks, public.messages,
    public.task_steps, public.task_events, public.artifacts to authenticated;
grant update (display_name) on public.profiles to authenticated;
grant insert (name, description, instructions, model, ice_breakers),
    update (name, description, instructions, model, ice_breakers), delete
    on public.assistants to authenticated;
grant insert (assistant_id, title), update (assistant_id, title), delete on public.threads to authenticated;
grant insert (thread_id, assistant_id, kind, prompt, inputs, model, priority, run_at, dedupe_key)
    on public.tasks to authenticated;

create policy "people see their own profile" on public.profiles
    for select to authenticated using (id = (select auth.uid()));
create policy "people change their own profile" on public.profiles
    for update to authenticated using (id = (select auth.uid())) with check (id = (select auth.uid()));

create policy "people see built-in assistants and their own" on public.assistants
    for select to authenticated using (user_id is null or user_id = (select auth.uid()));
create policy "people add assistants of their own" on public.assistants
    for insert to authenticated with check (user_id = (select auth.uid()));
create policy "people change their own assistants" on public.assistants
    for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "people delete their own assistants" on public.assistants
    for delete to authenticated using (user_id = (select auth.uid()));

create policy "people see their own threads" on public.threads
    for select to authenticated using (user_id = (select auth.uid()));
-- An assistant that the person may not see cannot be named either: the query below sees no other.
create policy "people begin threads of their own" on public.threads
    for insert to authenticated with check (user_id = (select auth.uid())
        and (assistant_id is null or exists (select 1 from public.assistants a where a.id = assistant_id)));
create policy "people change their own threads" on public.threads
    for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid())
        and (assistant_id is null or exists (select 1 from public.assistants a where a.id = assistant_id)));
create policy "people delete their own threads" on public.threads
    for delete to authenticated using (user_id = (select auth.uid()));

create policy "people see their own tasks" on public.tasks
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people ask tasks of their own" on public.tasks
    for insert to authenticated with check (user_id = (select auth.uid()));

create policy "people see their own messages" on public.messages
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people see the steps of their own tasks" on public.task_steps
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people see the events of their own tasks" on public.task_events
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people see their own artifacts" on public.artifacts
    for select to authenticated using (user_id = (select auth.uid()));

-- A profile for everyone who signs up.
create function pythonic.add_profile() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into public.profiles (id, display_name)
    values (new.id, left(coalesce(split_part(new.email, '@', 1), ''), 200))
    on conflict (id) do nothing;
    return new;
end
$$;
comment on function pythonic.add_profile() is 'Makes a profile for each new user.';
create trigger add_profile after insert on auth.users
    for each row execute function pythonic.add_profile();
insert into public.profiles (id, display_name)
    select id, left(coalesce(split_part(email, '@', 1), ''), 200) from auth.users
    on conflict (id) do nothing;
