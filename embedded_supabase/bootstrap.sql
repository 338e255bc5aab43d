-- What hosted Supabase has before the first migration and @supabase/lite does not make.
-- Run by embedded_supabase only, at every start, as the superuser; every statement may be repeated.
-- Names and signatures are those of hosted Supabase, so that the same migrations run on both.

do $$
declare
    role_name text;
begin
    foreach role_name in array array['anon', 'authenticated', 'service_role'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            execute pg_catalog.format('create role %I nologin noinherit', role_name);
        end if;
    end loop;
end
$$;
alter role service_role bypassrls;

create schema if not exists extensions;
create schema if not exists auth;
create schema if not exists storage;
create schema if not exists realtime;
create schema if not exists supabase_migrations;
create extension if not exists vector with schema extensions;

alter database postgres set search_path = "$user", public, extensions;
set search_path = "$user", public, extensions;

grant usage on schema public, extensions, auth, storage, realtime to anon, authenticated, service_role;
grant create on schema public to service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
-- storage.buckets and storage.objects are made after this; row-level security is on for both.
alter default privileges in schema storage grant all on tables to anon, authenticated, service_role;
alter default privileges in schema storage grant all on functions to anon, authenticated, service_role;

-- Hosted Supabase reads a claim from its own setting or from the whole token; lite sets both.
create or replace function auth.uid() returns uuid language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
$$;
create or replace function auth.role() returns text language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
    )
$$;
create or replace function auth.email() returns text language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.email', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
    )
$$;
create or replace function auth.jwt() returns jsonb language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;

create table if not exists supabase_migrations.schema_migrations (
    version text primary key,
    statements text[],
    name text,
    created_by text,
    idempotency_key text unique,
    rollback text[]
);

create table if not exists realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp not null default now(),
    inserted_at timestamp not null default now(),
    id uuid not null default gen_random_uuid(),
    written_by xid8 not null default pg_current_xact_id(),
    position bigint generated always as identity,
    primary key (id, inserted_at)
);
comment on table realtime.messages is
    'Broadcasts from the database, and the object of the policies that decide who may join which topic.';
comment on column realtime.messages.written_by is
    'Embedded only: the transaction, so that a reader that lost its connection can resume without a gap.';
comment on column realtime.messages.position is 'Embedded only: the order of messages, within a transaction as well.';
create index if not exists messages_written_by on realtime.messages (written_by);
create index if not exists messages_topic on realtime.messages (topic, inserted_at desc)
    where extension = 'broadcast' and private;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;

create or replace function realtime.topic() returns text language sql stable as $$
    select nullif(current_setting('realtime.topic', true), '')
$$;
comment on function realtime.topic() is 'The topic that a client wants to join, inside of a policy.';

create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true)
returns void language plpgsql as $$
declare
    message_id uuid := gen_random_uuid();
begin
    perform set_config('realtime.topic', topic, true);
    insert into realtime.messages (id, topic, extension, event, private, payload)
    values (
        message_id, topic, 'broadcast', event, private,
        case when payload ? 'id' then payload else payload || jsonb_build_object('id', message_id) end
    );
exception when others then
    -- As on hosted Supabase: a broadcast that fails must not undo the change that it tells of.
    raise warning 'ErrorSendingBroadcastMessage: %', sqlerrm;
end
$$;
comment on function realtime.send(jsonb, text, text, boolean) is 'Send a message to all who joined a topic.';

create or replace function realtime.broadcast_changes(
    topic_name text,
    event_name text,
    operation text,
    table_name text,
    table_schema text,
    new record,
    old record,
    level text default 'ROW'
) returns void language plpgsql as $$
begin
    if level = 'STATEMENT' then
        raise exception 'realtime.broadcast_changes needs a trigger for each row';
    end if;
    if operation not in ('INSERT', 'UPDATE', 'DELETE') then
        raise exception 'Unexpected operation type: %', operation;
    end if;
    perform realtime.send(
        jsonb_build_object(
            'old_record', old, 'record', new, 'operation', operation, 'table', table_name, 'schema', table_schema
        ),
        event_name,
        topic_name
    );
end
$$;
comment on function realtime.broadcast_changes(text, text, text, text, text, record, record, text) is
    'Send a changed row to all who joined a private topic; to be called by a trigger for each row.';

-- NOTIFY carries 8000 bytes: larger messages are announced by their id, and the gateway reads the row.
create or replace function realtime.announce() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
    message text := pg_catalog.jsonb_build_object(
        'id', new.id, 'written_by', new.written_by::text, 'topic', new.topic, 'event', new.event,
        'private', new.private, 'payload', new.payload
    )::text;
begin
    if pg_catalog.octet_length(message) > 7900 then
        message := pg_catalog.jsonb_build_object('id', new.id)::text;
    end if;
    perform pg_catalog.pg_notify('realtime_messages', message);
    return null;
end
$$;
comment on function realtime.announce() is 'Embedded only: hosted Supabase reads the write-ahead log instead.';
revoke execute on function realtime.announce() from public;
create or replace trigger announce after insert on realtime.messages
    for each row when (new.extension = 'broadcast') execute function realtime.announce();
