-- What model replies cost, and budgets that the queue keeps: prices, a ledger of usage, limits of a day.

-- ---------------------------------------------------------------------------------------------------------
-- Prices
-- ---------------------------------------------------------------------------------------------------------

create table public.prices (
    id bigint generated always as identity primary key,
    model text not null check (char_length(model) between 1 and 200),
    input_per_million numeric not null check (input_per_million >= 0),
    cached_input_per_million numeric check (cached_input_per_million >= 0),
    cache_write_per_million numeric check (cache_write_per_million >= 0),
    output_per_million numeric not null check (output_per_million >= 0),
    long_from_tokens integer check (long_from_tokens > 0),
    long_input_factor numeric not null default 1 check (long_input_factor > 0),
    long_output_factor numeric not null default 1 check (long_output_factor > 0),
    currency text not null default 'USD' check (currency = 'USD'),
    valid_from date not null default current_date,
    source text not null default '' check (char_length(source) <= 2000),
    noted_at timestamptz not null default now(),
    unique (model, valid_from)
);
comment on table public.prices is 'What models cost. Add a row for a model that is missing, or with a later valid_from when a price changes; workers read it once a minute. A model without a row costs nobody knows what.';
comment on column public.prices.id is 'Identifier.';
comment on column public.prices.model is 'The model''s name as in tasks.model_used; one with a date at its end, such as -2026-09-29, has the price of the name before it unless it has its own.';
comment on column public.prices.input_per_million is 'For a million tokens of input.';
comment on column public.prices.cached_input_per_million is 'For a million tokens of input that the server still had; null: as input.';
comment on column public.prices.cache_write_per_million is 'For a million tokens of input that the server keeps for later; null: as input.';
comment on column public.prices.output_per_million is 'For a million tokens of output, reasoning included.';
comment on column public.prices.long_from_tokens is 'A request with more tokens of input than this is a long one; null: there is no such rule.';
comment on column public.prices.long_input_factor is 'Times this for all input of a long request.';
comment on column public.prices.long_output_factor is 'Times this for the output of a long request.';
comment on column public.prices.currency is 'US dollars.';
comment on column public.prices.valid_from is 'The first day (UTC) of this price.';
comment on column public.prices.source is 'Where the price was read.';
comment on column public.prices.noted_at is 'When the row was written.';
alter table public.prices enable row level security;
revoke all on public.prices from anon, authenticated, service_role;
grant select on public.prices to authenticated;
grant all on public.prices to service_role;
create policy "everyone who is signed in sees the prices" on public.prices
    for select to authenticated using (true);

insert into public.prices (model, input_per_million, cached_input_per_million, cache_write_per_million,
    output_per_million, long_from_tokens, long_input_factor, long_output_factor, valid_from, source) values
    ('gpt-6.1-sol', 2, 0.10, 2.50, 10, 272000, 2, 1.5, '2026-09-29',
        'https://developers.openai.com/api/docs/models/gpt-6.1-sol as told by https://github.com/amine123max/Codex-Manager/releases/tag/0.4.7; cache writes: https://github.com/TheKrush/PromptFuel/releases/tag/v1.0.22'),
    ('gpt-6.1-terra', 1, 0.05, 1.25, 5, 272000, 2, 1.5, '2026-10-26',
        'OpenAI''s price page as told by https://apidog.com/de/blog/gpt-6-1-terra-pricing/; date: https://github.com/TheKrush/PromptFuel/releases/tag/v1.0.24'),
    ('gpt-6-sol', 2, 0.20, 2.50, 10, 272000, 2, 1.5, '2026-09-22',
        'OpenAI''s price page as told by https://github.com/merefield/codexometer/releases/tag/v0.18.4; long requests: https://github.com/BerriAI/litellm/discussions/42523'),
    ('gpt-6-luna', 0.10, 0.01, 0.125, 0.50, 272000, 2, 1.5, '2026-09-22',
        'OpenAI''s price page as told by https://github.com/merefield/codexometer/releases/tag/v0.18.4; long requests: https://github.com/BerriAI/litellm/discussions/42523'),
    ('gpt-6-astra', 10, 1, null, 50, null, 1, 1, '2026-09-03',
        'OpenAI''s price page as told by https://github.com/TheKrush/PromptFuel/releases/tag/v1.0.19; its dearer long requests and cache writes are not in here'),
    ('gpt-5.6-terra', 2, 0.20, null, 12, null, 1, 1, '2026-07-30',
        'https://docs.laozhang.ai/en/announcements/gpt-5-6-pricing-2026-07.md; its dearer long requests and cache writes are not in here'),
    ('gpt-5.6-luna', 0.20, 0.02, null, 1.20, null, 1, 1, '2026-07-30',
        'https://docs.laozhang.ai/en/announcements/gpt-5-6-pricing-2026-07.md; its dearer long requests and cache writes are not in here');

create view public.current_prices with (security_invoker = true) as
select distinct on (p.model) p.*
from public.prices p
where p.valid_from <= (now() at time zone 'UTC')::date
order by p.model, p.valid_from desc;
comment on view public.current_prices is 'The price of each model that holds today.';

-- ---------------------------------------------------------------------------------------------------------
-- Usage
-- ---------------------------------------------------------------------------------------------------------

create table public.usage (
    id bigint generated always as identity primary key,
    user_id uuid not null references public.profiles (id) on delete cascade,
    task_id bigint references public.tasks (id) on delete set null,
    attempt integer not null,
    seq integer not null,
    model text not null default '',
    purpose text not null default '',
    turns integer not null default 1 check (turns >= 0),
    input_tokens bigint not null default 0 check (input_tokens >= 0),
    cached_tokens bigint not null default 0 check (cached_tokens >= 0),
    output_tokens bigint not null default 0 check (output_tokens >= 0),
    cost numeric check (cost >= 0),
    at timestamptz not null default now(),
    unique (task_id, attempt, seq)
) with (autovacuum_vacuum_insert_threshold = 50000, autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_analyze_threshold = 50000, autovacuum_analyze_scale_factor = 0);
comment on table public.usage is 'A row for each reply of a model. It stays when its task is deleted: what is spent is spent.';
comment on column public.usage.id is 'Identifier.';
comment on column public.usage.user_id is 'The person whose task it was.';
comment on column public.usage.task_id is 'The task; null when it was deleted.';
comment on column public.usage.attempt is 'The attempt of the task.';
comment on column public.usage.seq is 'The number of the event model_replied within the attempt.';
comment on column public.usage.model is 'The model that replied.';
comment on column public.usage.purpose is 'What it was asked for: plan, code, fix, verify or probe.';
comment on column public.usage.turns is 'Answers of the model: 2 when the first was unreadable.';
comment on column public.usage.input_tokens is 'Tokens of input, those from the cache included.';
comment on column public.usage.cached_tokens is 'Of them, those that the server still had.';
comment on column public.usage.output_tokens is 'Tokens of output.';
comment on column public.usage.cost is 'US dollars; null where the price is unknown.';
comment on column public.usage.at is 'When the reply was there.';
create index usage_of_day on public.usage (user_id, at) include (input_tokens, output_tokens, cost);
alter table public.usage enable row level security;
revoke all on public.usage from anon, authenticated, service_role;
grant select on public.usage to authenticated, service_role;
create policy "people see their own usage" on public.usage
    for select to authenticated using (user_id = (select auth.uid()));

-- A worker knows what it cost when the reply comes: the price is then known, or it is not.
create function pythonic.note_usage() returns trigger
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_user uuid;
begin
    if not exists (select 1 from added a where a.kind = 'model_replied') then return null; end if;
    insert into public.usage
        (user_id, task_id, attempt, seq, model, purpose, turns, input_tokens, cached_tokens, output_tokens, cost, at)
    select a.user_id, a.task_id, a.attempt, a.seq, coalesce((
            select s.data ->> 'model' from public.task_events s
            where s.task_id = a.task_id and s.attempt = a.attempt and s.kind = 'run_started'
            order by s.seq limit 1), ''),
        coalesce(a.data ->> 'purpose', ''),
        greatest(coalesce((u.usage ->> 'turns')::integer, 1), 0),
        greatest(coalesce((u.usage ->> 'input_tokens')::bigint, 0), 0),
        greatest(coalesce((u.usage ->> 'cached_tokens')::bigint, 0), 0),
        greatest(coalesce((u.usage ->> 'output_tokens')::bigint, 0), 0),
        greatest((u.usage ->> 'cost')::numeric, case when u.usage ->> 'cost' is not null then 0 end),
        least(a.created_at, now())
    from added a cross join lateral (select coalesce(a.data -> 'usage', '{}') as usage) u
    where a.kind = 'model_replied'
    on conflict (task_id, attempt, seq) do nothing;
    for v_user in select distinct a.user_id from added a where a.kind = 'model_replied' order by 1 loop
        perform pythonic.hold_spent(v_user);
    end loop;
    return null;
end
$$;
comment on function pythonic.note_usage() is 'Writes a row of usage for each event model_replied.';
create trigger usage_noted after insert on public.task_events
    referencing new table as added for each statement execute function pythonic.note_usage();

create function pythonic.usage_of_task(p_task bigint) returns jsonb
language sql stable security definer set search_path = ''
as $$
    select case when count(*) > 0 then jsonb_build_object(
        'turns', sum(u.turns), 'input_tokens', sum(u.input_tokens), 'cached_tokens', sum(u.cached_tokens),
        'output_tokens', sum(u.output_tokens), 'cost', round(sum(u.cost), 9),
        'unpriced', count(*) filter (where u.cost is null)) end
    from public.usage u where u.task_id = p_task
$$;
comment on function pythonic.usage_of_task(bigint) is 'What all attempts at a task have used; null when no reply is known. unpriced: replies whose cost is unknown.';

create function pythonic.sum_usage() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    new.usage := coalesce(pythonic.usage_of_task(new.id), new.usage);
    return new;
end
$$;
comment on function pythonic.sum_usage() is 'Keeps in tasks.usage what all attempts have used, not only the last.';
-- Not for an attempt that tells of no usage: it has asked no model.
create trigger usage_summed before update on public.tasks for each row
    when (old.state = 'running' and new.state <> 'running' and (new.usage <> '{}' or new.state <> 'succeeded'))
    execute function pythonic.sum_usage();
comment on column public.tasks.usage is 'What all attempts have used: turns, input_tokens, cached_tokens, output_tokens, cost in US dollars (null: unknown), unpriced: replies of unknown cost.';

-- ---------------------------------------------------------------------------------------------------------
-- Budgets of a day
-- ---------------------------------------------------------------------------------------------------------

alter table public.profiles add column if not exists time_zone text not null default 'UTC';
alter table public.profiles
    add column daily_tokens bigint check (daily_tokens >= 1000),
    add column daily_cost numeric check (daily_cost >= 0.01 and daily_cost <= 1000000),
    add column most_daily_tokens bigint check (most_daily_tokens >= 0),
    add column most_daily_cost numeric check (most_daily_cost >= 0 and most_daily_cost <= 1000000);
comment on column public.profiles.time_zone is 'The person''s time zone, such as Europe/Berlin: their day begins at its midnight.';
comment on column public.profiles.daily_tokens is 'The person''s own budget: tokens of input and output a day; null for none.';
comment on column public.profiles.daily_cost is 'The person''s own budget: US dollars a day; null for none.';
comment on column public.profiles.most_daily_tokens is 'The operator''s budget for the person: tokens a day of UTC; null for none. It counts beside the person''s own.';
comment on column public.profiles.most_daily_cost is 'The operator''s budget for the person: US dollars a day of UTC; null for none. It counts beside the person''s own.';
grant update (daily_tokens, daily_cost, time_zone) on public.profiles to authenticated;

create function pythonic.check_day() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    if not exists (select 1 from pg_catalog.pg_timezone_names z where z.name = new.time_zone) then
        raise exception 'There is no time zone %: write it like Europe/Berlin.', quote_literal(left(new.time_zone, 100))
            using errcode = 'invalid_parameter_value';
    end if;
    return new;
end
$$;
comment on function pythonic.check_day() is 'Says what is wrong with a time zone.';
create trigger day_checked before update of time_zone on public.profiles for each row
    when (new.time_zone is distinct from old.time_zone) execute function pythonic.check_day();
create trigger day_checked_first before insert on public.profiles for each row
    when (new.time_zone <> 'UTC') execute function pythonic.check_day();

create function pythonic.spend_of(p_user uuid) returns jsonb
language sql stable security definer set search_path = '' set jit = off
as $$
    select jsonb_build_object(
        'day', (d.begins at time zone p.time_zone)::date, 'time_zone', p.time_zone,
        'ends_at', ((d.begins at time zone p.time_zone) + interval '1 day') at time zone p.time_zone,
        'tokens', u.tokens, 'cost', round(u.cost, 9), 'unpriced', u.unpriced, 'replies', u.replies,
        'daily_tokens', p.daily_tokens, 'daily_cost', p.daily_cost,
        'most_daily_tokens', p.most_daily_tokens, 'most_daily_cost', p.most_daily_cost,
        'utc_tokens', u.utc_tokens, 'utc_cost', round(u.utc_cost, 9))
    from public.profiles p
    -- A person can choose the zone, and so when their own day begins, but not the day of the operator.
    cross join lateral (
        select date_trunc('day', now(), p.time_zone) as begins, date_trunc('day', now(), 'UTC') as utc_begins) d
    cross join lateral (
        select coalesce(sum(u.input_tokens + u.output_tokens) filter (where u.at >= d.begins), 0) as tokens,
            coalesce(sum(u.cost) filter (where u.at >= d.begins), 0) as cost,
            count(*) filter (where u.cost is null and u.at >= d.begins) as unpriced,
            count(*) filter (where u.at >= d.begins) as replies,
            coalesce(sum(u.input_tokens + u.output_tokens) filter (where u.at >= d.utc_begins), 0) as utc_tokens,
            coalesce(sum(u.cost) filter (where u.at >= d.utc_begins), 0) as utc_cost
        from public.usage u where u.user_id = p.id and u.at >= least(d.begins, d.utc_begins)) u
    where p.id = p_user
$$;
comment on function pythonic.spend_of(uuid) is 'What a person has spent today, in the time zone of the person and (utc_) in UTC, and the budgets.';

create or replace function pythonic.admission_problem(p_user uuid) returns text
language plpgsql stable security definer set search_path = '' set jit = off
as $$
declare
    v_profile public.profiles;
    v_spend jsonb;
    v_what text;
begin
    select * into v_profile from public.profiles p where p.id = p_user;
    if num_nonnulls(v_profile.daily_cost, v_profile.most_daily_cost, v_profile.daily_tokens,
        v_profile.most_daily_tokens) = 0 then return null; end if;
    v_spend := pythonic.spend_of(p_user);
    -- The operator's first: while that is spent, raising one's own helps nothing. Its day is that of UTC.
    v_what := case
        when (v_spend ->> 'utc_cost')::numeric >= v_profile.most_daily_cost then
            '$' || to_char(v_profile.most_daily_cost, 'FM9,999,990.00')
        when (v_spend ->> 'utc_tokens')::bigint >= v_profile.most_daily_tokens then
            to_char(v_profile.most_daily_tokens, 'FM999,999,999,999,999,990') || ' tokens'
    end;
    if v_what is not null then
        return format('The budget of %s a day that the operator gives you is spent; this task starts after midnight (UTC).',
            v_what);
    end if;
    v_what := case
        when (v_spend ->> 'cost')::numeric >= v_profile.daily_cost then
            '$' || to_char(v_profile.daily_cost, 'FM9,999,990.00')
        when (v_spend ->> 'tokens')::bigint >= v_profile.daily_tokens then
            to_char(v_profile.daily_tokens, 'FM999,999,999,999,999,990') || ' tokens'
    end;
    if v_what is null then return null; end if;
    return format('Your budget of %s a day is spent; this task starts after midnight (%s), or when you raise the budget.',
        v_what, v_profile.time_zone);
end
$$;

create function pythonic.hold_spent(p_user uuid) returns void
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_why text := pythonic.admission_problem(p_user);
begin
    -- Never waits, because the caller has locks of its own already. Who has the admission now looks at the budget
    -- too, and the next reply tries again.
    if v_why is not null and pythonic.try_admission(p_user) then
        update public.tasks t set state = 'held', held_because = v_why
        where t.id = any (array(
            select q.id from public.tasks q where q.user_id = p_user and q.state = 'queued'
            order by q.id for update skip locked));
    end if;
end
$$;
comment on function pythonic.hold_spent(uuid) is 'Holds what is queued of a person whose budget of the day is spent.';

create function pythonic.budget_changed() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    perform pythonic.promote_held(new.id);
    perform pythonic.hold_spent(new.id);
    return null;
end
$$;
comment on function pythonic.budget_changed() is 'Lets held tasks go on when a budget is raised, and holds queued ones when it is lowered.';
create trigger budget_changed after update of daily_tokens, daily_cost, most_daily_tokens, most_daily_cost, time_zone
    on public.profiles for each row
    when ((old.daily_tokens, old.daily_cost, old.most_daily_tokens, old.most_daily_cost, old.time_zone)
        is distinct from (new.daily_tokens, new.daily_cost, new.most_daily_tokens, new.most_daily_cost, new.time_zone))
    execute function pythonic.budget_changed();

create view public.spend_by_day with (security_invoker = true) as
select u.user_id, p.display_name as person, (u.at at time zone p.time_zone)::date as day, u.model,
    count(distinct u.task_id) as tasks, count(*) as replies, sum(u.input_tokens) as input_tokens,
    sum(u.cached_tokens) as cached_tokens, sum(u.output_tokens) as output_tokens, sum(u.cost) as cost,
    count(*) filter (where u.cost is null) as unpriced
from public.usage u join public.profiles p on p.id = u.user_id
group by u.user_id, p.display_name, p.time_zone, day, u.model
order by day desc, person, cost desc nulls last;
comment on view public.spend_by_day is 'What each person spent on each model each day, in US dollars; unpriced: replies whose cost is unknown.';
revoke all on public.current_prices, public.spend_by_day from anon, authenticated, service_role;
grant select on public.current_prices, public.spend_by_day to authenticated, service_role;

create function pythonic.own_spend() returns jsonb
    language sql stable security definer set search_path = '' as $$ select pythonic.spend_of(auth.uid()) $$;
comment on function pythonic.own_spend() is 'What the caller has spent today, and the budgets.';
create function public.own_spend() returns jsonb
    language sql stable security invoker set search_path = '' as $$ select pythonic.own_spend() $$;
comment on function public.own_spend() is 'What the caller has spent today: {day, time_zone, ends_at, tokens, cost, unpriced, replies, daily_tokens, daily_cost, most_daily_tokens, most_daily_cost, utc_tokens, utc_cost}: the last two of the day in UTC, which the operator''s budgets are for.';

-- ---------------------------------------------------------------------------------------------------------
-- Limits of one task
-- ---------------------------------------------------------------------------------------------------------

create or replace function pythonic.limits_problem(p_limits jsonb) returns text
language plpgsql immutable set search_path = ''
as $$
declare
    -- As in pythonic_assistant/domain/limits.py; a test compares both.
    v_least constant jsonb := '{"memory_bytes": 33554432, "processes": 1, "cpu_seconds": 1, "disk_bytes": 1048576,
        "inodes": 16, "output_bytes": 1, "open_files": 32, "seconds": 1, "execution_seconds": 1, "turns": 1,
        "tokens": 1000, "cost": 0.01}';
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
        if v_name = 'cost' then
            if jsonb_typeof(v_value) <> 'number' or v_value::text::numeric not between 0.01 and 1000000 then
                return format('The limit cost is %s: write US dollars, at least 0.01.', left(v_value::text, 100));
            end if;
            continue;
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

-- ---------------------------------------------------------------------------------------------------------
-- What a run is told, and which events last
-- ---------------------------------------------------------------------------------------------------------

alter function pythonic.claim_extra(public.tasks) rename to claim_extra_before_budgets;
create function pythonic.claim_extra(p_task public.tasks) returns jsonb
language plpgsql stable security definer set search_path = '' set jit = off
as $$
begin
    -- The first attempt has nothing to go on from: looking for it would cost a fifth of a claim.
    if p_task.attempt = 1 then
        return '{"items": [], "spent": {"turns": 0, "input_tokens": 0, "output_tokens": 0, "cost": null}, "effects": []}';
    end if;
    return pythonic.claim_extra_before_budgets(p_task) || case
        when p_task.attempt > p_task.asked_attempt + 1 then coalesce((
            select jsonb_build_object('spent', jsonb_build_object('turns', sum(u.turns),
                'input_tokens', sum(u.input_tokens), 'output_tokens', sum(u.output_tokens), 'cost', sum(u.cost)))
            from public.usage u where u.task_id = p_task.id and u.attempt > p_task.asked_attempt
            having count(*) > 0), '{}')
        else '{}' end;
end
$$;
comment on function pythonic.claim_extra(public.tasks) is
    'What a claimed task is given beside what the core gives: also what earlier attempts have spent since it was asked for.';

alter function pythonic.durable_kinds() rename to durable_kinds_before_budgets;
create function pythonic.durable_kinds() returns text[]
    language sql immutable set search_path = ''
    as $$ select array_append(pythonic.durable_kinds_before_budgets(), 'model_replied') $$;
comment on function pythonic.durable_kinds() is 'Events that must be on the disk before append_events answers; a paid reply is one of them.';

revoke all on all functions in schema pythonic from public;
revoke all on function public.own_spend from public, anon, authenticated, service_role;
grant execute on function pythonic.own_spend, public.own_spend to authenticated;
