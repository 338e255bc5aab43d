-- A small project for the contract tests of embedded_supabase; runs on hosted Supabase as well.
create extension if not exists vector with schema extensions;

create table public.notes (
    id bigint generated always as identity primary key,
    owner uuid not null default auth.uid() references auth.users (id) on delete cascade,
    body text not null check (body <> 'forbidden'),
    embedding extensions.vector(3),
    created_at timestamptz not null default now()
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated
    using (owner = (select auth.uid())) with check (owner = (select auth.uid()));
revoke update on public.notes from anon, authenticated;

create function public.add_numbers(a integer, b integer) returns integer
    language sql immutable as 'select a + b';
create function public.fail_with(state text) returns void language plpgsql as $$
begin
    raise exception 'It is late.' using errcode = state, detail = 'Very late.', hint = 'Go to bed.';
end
$$;
create function public.count_all_notes() returns bigint
    language sql stable security definer set search_path = '' as 'select count(*) from public.notes';
revoke execute on function public.count_all_notes() from public, anon, authenticated;

create function public.tell_owner() returns trigger
    language plpgsql security definer set search_path = '' as $$
begin
    perform realtime.send(
        jsonb_build_object('note', new.id, 'body', new.body), 'note', 'user:' || new.owner, true);
    perform realtime.broadcast_changes(
        'changes:' || new.owner, tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
    return null;
end
$$;
create trigger tell_owner after insert on public.notes for each row execute function public.tell_owner();

create policy "own topics and rooms" on realtime.messages for select to authenticated using (
    (select realtime.topic()) in ('user:' || (select auth.uid())::text, 'changes:' || (select auth.uid())::text)
    or (select realtime.topic()) like 'room:%');
create policy "speak in rooms" on realtime.messages for insert to authenticated
    with check ((select realtime.topic()) like 'room:%' and extension in ('broadcast', 'presence'));

insert into storage.buckets (id, name, public) values ('artifacts', 'artifacts', false) on conflict do nothing;
create policy "own files" on storage.objects for all to authenticated
    using (bucket_id = 'artifacts' and (storage.foldername(name))[1] = (select auth.uid())::text)
    with check (bucket_id = 'artifacts' and (storage.foldername(name))[1] = (select auth.uid())::text);
