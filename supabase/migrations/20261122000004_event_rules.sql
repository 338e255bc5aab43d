-- Every change of a task's state is a row of `task_changes`, whoever made it: a trigger writes it in the same
-- transaction. Rules of people turn such changes into deliveries, which any worker makes: a webhook, an e-mail,
-- or a new task. A delivery is written with the change itself, so none is lost, and is never made there: a
-- receiver that is slow must not hold a task's row.

-- ---------------------------------------------------------------------------------------------------------
-- Changes of state
-- ---------------------------------------------------------------------------------------------------------

-- Not in task_events: their numbers are given by the worker that holds the lease, without gaps.
create table public.task_changes (
    task_id bigint not null references public.tasks (id) on delete cascade,
    id bigint generated always as identity,
    old_state text,
    state text not null,
    why text not null,
    detail text,
    attempt integer not null,
    changed_at timestamptz not null default now(),
    -- No foreign key to profiles: it would lock the person's row at every change. The task's goes with the person.
    user_id uuid not null,
    primary key (task_id, id)
);
comment on table public.task_changes is 'Every change of a task''s state, in order, with why. Written by a trigger, also for changes made by hand.';
comment on column public.task_changes.task_id is 'The task.';
comment on column public.task_changes.id is 'Identifier; in order within the task.';
comment on column public.task_changes.old_state is 'The state before; null when the task was asked.';
comment on column public.task_changes.state is 'The state since then.';
comment on column public.task_changes.why is 'asked, asked_by_rule, due, room_made, claimed, released, worker_lost, tried_again_later, finished, failed, waits, resumed, cancelled, retried, or changed.';
comment on column public.task_changes.detail is 'The error, or why the task is held or what it waits for; shortened.';
comment on column public.task_changes.attempt is 'The attempt at that time.';
comment on column public.task_changes.changed_at is 'When it changed.';
comment on column public.task_changes.user_id is 'The person whose task it is.';

alter table public.tasks
    add column caused_by bigint references public.tasks (id) on delete set null,
    add column caused_by_rules uuid[] not null default '{}',
    add constraint tasks_chain check (cardinality(caused_by_rules) <= 3);
create index tasks_caused_by on public.tasks (caused_by) where caused_by is not null;
comment on column public.tasks.caused_by is 'The task whose change of state made a rule start this one.';
comment on column public.tasks.caused_by_rules is 'The rules that led here, the first one first: as many as the chain is deep, at most 3.';

create function pythonic.why_changed(
    p_old text, p_new text, p_failures_before integer, p_failures integer, p_by_rule boolean) returns text
language sql immutable set search_path = ''
as $$
    select case
        when p_old is null then case when p_by_rule then 'asked_by_rule' else 'asked' end
        when p_new = 'cancelled' then 'cancelled'
        when p_new = 'waiting' then 'waits'
        when p_new = 'running' then 'claimed'
        when p_new = 'succeeded' then 'finished'
        when p_old in ('succeeded', 'failed', 'cancelled') then 'retried'
        when p_old = 'waiting' and p_new in ('queued', 'held') then 'resumed'
        when p_old = 'running' and p_new in ('queued', 'held') then
            case when p_failures > p_failures_before then 'worker_lost' else 'released' end
        when p_new = 'failed' then 'failed'
        when p_old = 'running' and p_new = 'scheduled' then 'tried_again_later'
        when p_old = 'scheduled' and p_new in ('queued', 'held') then 'due'
        when p_old = 'held' and p_new = 'queued' then 'room_made'
        else 'changed'
    end
$$;
comment on function pythonic.why_changed(text, text, integer, integer, boolean) is
    'Why a task''s state changed, from its states and failures before (null: it was asked) and after.';

-- ---------------------------------------------------------------------------------------------------------
-- What rules may say: one sentence for each mistake
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.pattern_problem(p_pattern jsonb) returns text
language plpgsql immutable set search_path = ''
as $$
declare
    v_words constant jsonb := '{
        "states": ["scheduled", "held", "queued", "running", "waiting", "succeeded", "failed", "cancelled"],
        "verdicts": ["proven", "unverified", "refuted"], "assistants": null, "labels": null}';
    v_key text;
    v_value jsonb;
    v_word text;
begin
    if p_pattern is null or jsonb_typeof(p_pattern) <> 'object' then
        return 'Write the pattern as an object, such as {"states": ["failed"]}.';
    end if;
    for v_key, v_value in select k.key, k.value from jsonb_each(p_pattern) k loop
        if not v_words ? v_key then
            return format('There is no pattern key %s; the keys are %s.', quote_literal(left(v_key, 100)),
                (select string_agg(n.name, ', ' order by n.name) from jsonb_object_keys(v_words) as n (name)));
        end if;
        if jsonb_typeof(v_value) <> 'array' or jsonb_array_length(v_value) not between 1 and 50
            or exists (select 1 from jsonb_array_elements(v_value) e where jsonb_typeof(e) <> 'string') then
            return format('The pattern''s %s are no list of 1 to 50 words, such as %s.', v_key, case v_key
                when 'states' then '["failed"]' when 'verdicts' then '["proven"]'
                when 'labels' then '["office-network"]' else '["00000000-0000-4000-8000-000000000001"]' end);
        end if;
        for v_word in select * from jsonb_array_elements_text(v_value) loop
            if v_key in ('states', 'verdicts') and not v_words -> v_key ? v_word then
                return format('There is no %s %s; choose from %s.', case v_key when 'states' then 'state' else 'verdict' end,
                    quote_literal(left(v_word, 100)),
                    (select string_agg(w, ', ') from jsonb_array_elements_text(v_words -> v_key) w));
            elsif v_key = 'labels' and v_word !~ '^[a-z0-9][a-z0-9._-]{0,49}$' then
                return format('%s is no label: write it like office-network.', quote_literal(left(v_word, 100)));
            elsif v_key = 'assistants'
                and v_word !~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
                return format('%s is no identifier of an assistant.', quote_literal(left(v_word, 100)));
            end if;
        end loop;
    end loop;
    return null;
end
$$;
comment on function pythonic.pattern_problem(jsonb) is 'Why this is no pattern of a rule, or null. What a pattern does not name is not looked at.';

create function pythonic.host_of_url(p_url text) returns text
language sql immutable set search_path = ''
as $$ select lower(substring(p_url from '^https://([^/?#]*)')) $$;
comment on function pythonic.host_of_url(text) is 'The host of a webhook''s address.';

create function pythonic.webhook_problem(p_url text) returns text
language plpgsql immutable set search_path = ''
as $$
declare
    v_host text := pythonic.host_of_url(p_url);
begin
    return case
        when p_url is null or p_url = '' then 'Write the address that is to be called, such as https://hooks.example.org/tasks.'
        when p_url ~* '^http://' then 'The address begins with http://, so anybody on the way could read and change what is sent: write https://. A host of your own network can be reached too: see PYTHONIC_PRIVATE_HOSTS.'
        when v_host is null then 'The address does not begin with https://: write it like https://hooks.example.org/tasks.'
        when v_host ~ '@' then 'The address holds a user''s name or a password: leave it out; the receiver knows the sender by the signature.'
        when p_url ~ '#' then 'The address has a part behind #, which is never sent: leave it out.'
        when v_host ~ ':' then 'The address names a port: webhooks use 443 alone, so leave it out.'
        when not pythonic.is_host(v_host) then pythonic.hosts_problem(array[v_host], 1)
        when p_url !~ '^[!-~]+$' or char_length(p_url) > 2000 then 'The address has blanks, other characters than ASCII, or more than 2,000 of them.'
    end;
end
$$;
comment on function pythonic.webhook_problem(text) is 'Why no webhook can be sent to this address, or null.';

create function pythonic.template_problem(p_template text) returns text
language plpgsql immutable set search_path = ''
as $$
declare
    v_rest text := regexp_replace(replace(replace(p_template, '{{', ''), '}}', ''),
        '[{](prompt|answer|state|task_id|error)[}]', '', 'g');
begin
    return case
        when p_template is null or btrim(p_template) = '' then 'The prompt of the new task is empty: write what should be done.'
        when char_length(p_template) > 4000 then 'The prompt of the new task has more than 4,000 characters.'
        when v_rest ~ '[{}]' then format(
            'The prompt of the new task has %s in it; the fields are {prompt}, {answer}, {state}, {task_id} and {error}. For a brace itself write {{ or }}.',
            left(substring(v_rest from '[{][^{}]*[}]?|[}]'), 60))
    end;
end
$$;
comment on function pythonic.template_problem(text) is 'Why this is no prompt with named fields, or null.';

create function pythonic.target_problem(p_action text, p_target jsonb) returns text
language plpgsql immutable set search_path = ''
as $$
declare
    v_keys constant jsonb := '{"webhook": ["url"], "email": ["to"], "task": ["prompt", "assistant", "same_thread"]}';
    v_key text;
begin
    if p_target is null or jsonb_typeof(p_target) <> 'object' then
        return 'Write the target as an object, such as {"url": "https://hooks.example.org/tasks"}.';
    end if;
    for v_key in select * from jsonb_object_keys(p_target) loop
        if not v_keys -> p_action ? v_key then
            return format('The target of %s has no key %s; the keys are %s.', p_action, quote_literal(left(v_key, 100)),
                (select string_agg(k, ', ') from jsonb_array_elements_text(v_keys -> p_action) k));
        end if;
        if jsonb_typeof(p_target -> v_key) <> (case v_key when 'same_thread' then 'boolean' else 'string' end) then
            return format('The target''s %s is no %s.', v_key, case v_key when 'same_thread' then 'true or false' else 'text' end);
        end if;
    end loop;
    return case p_action
        when 'webhook' then pythonic.webhook_problem(p_target ->> 'url')
        when 'email' then case when p_target ->> 'to' !~ '^[!-?A-~]{1,64}@[a-z0-9.-]{1,253}$' then
            format('%s is no e-mail address: write it like me@example.org.', quote_literal(left(p_target ->> 'to', 100))) end
        when 'task' then coalesce(pythonic.template_problem(p_target ->> 'prompt'),
            case when p_target ->> 'assistant' !~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
                then 'The target''s assistant is no identifier of an assistant.' end)
    end;
end
$$;
comment on function pythonic.target_problem(text, jsonb) is 'Why a rule cannot act on this target, or null.';

-- ---------------------------------------------------------------------------------------------------------
-- Rules and deliveries
-- ---------------------------------------------------------------------------------------------------------

create table public.event_rules (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null default auth.uid() references public.profiles (id) on delete cascade,
    name text not null,
    pattern jsonb not null default '{"states": ["failed"]}',
    action text not null check (action in ('webhook', 'email', 'task')),
    target jsonb not null default '{}',
    secret text,
    enabled boolean not null default true,
    paused_because text,
    by_default boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint event_rules_name check (char_length(btrim(name)) between 1 and 100),
    constraint event_rules_pattern check (pythonic.pattern_problem(pattern) is null),
    constraint event_rules_target check (pythonic.target_problem(action, target) is null),
    constraint event_rules_secret check ((secret is not null) = (action = 'webhook')),
    constraint event_rules_paused check (not enabled or paused_because is null)
);
create index event_rules_of_user on public.event_rules (user_id);
create unique index event_rules_name_of_user on public.event_rules (user_id, lower(btrim(name)));
comment on table public.event_rules is 'What happens by itself when a task''s state changes: a webhook, an e-mail, or a new task.';
comment on column public.event_rules.id is 'Identifier.';
comment on column public.event_rules.user_id is 'The person whose tasks it is about.';
comment on column public.event_rules.name is 'Shown where rules are listed; each once.';
comment on column public.event_rules.pattern is 'Which changes: {"states", "verdicts", "assistants", "labels"}, each a list of which one has to hold; what is not named is not looked at.';
comment on column public.event_rules.action is 'webhook, email or task; it stays as it was made.';
comment on column public.event_rules.target is 'webhook: {"url"}. email: {"to"}, or {} for the person''s own address. task: {"prompt", "assistant", "same_thread"}.';
comment on column public.event_rules.secret is 'Name of the secret that signs webhooks; bound to the host of the address.';
comment on column public.event_rules.enabled is 'False: paused, nothing is made or sent.';
comment on column public.event_rules.paused_because is 'Why it was paused when it was not the person who did it.';
comment on column public.event_rules.by_default is 'Made for everyone; it keeps silent as long as no e-mail can be sent.';
comment on column public.event_rules.created_at is 'When it was made.';
comment on column public.event_rules.updated_at is 'When it was last changed.';

create table public.deliveries (
    id uuid primary key default gen_random_uuid(),
    state text not null default 'pending' check (state in ('pending', 'delivering', 'delivered', 'dead')),
    event text not null check (char_length(event) between 1 and 100),
    rule_id uuid not null references public.event_rules (id) on delete cascade,
    task_id bigint references public.tasks (id) on delete cascade,
    action text not null check (action in ('webhook', 'email', 'task')),
    payload jsonb not null,
    tries integer not null default 0 check (tries >= 0),
    next_try_at timestamptz not null default now(),
    last_error text,
    response_status integer check (response_status between 100 and 599),
    made_task_id bigint references public.tasks (id) on delete set null,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    worker_id uuid,
    lease_until timestamptz,
    fence integer not null default 0,
    user_id uuid not null references public.profiles (id) on delete cascade,
    constraint delivering_has_a_lease check ((state = 'delivering') = (worker_id is not null and lease_until is not null)),
    constraint ended_has_a_time check ((state in ('delivered', 'dead')) = (finished_at is not null)),
    constraint dead_has_an_error check (state <> 'dead' or last_error is not null)
);
create index deliveries_due on public.deliveries (next_try_at) where state = 'pending';
create index deliveries_held on public.deliveries (lease_until) where state = 'delivering';
create index deliveries_ended on public.deliveries (finished_at) where state = 'delivered';
create index deliveries_of_rule on public.deliveries (rule_id, created_at desc);
create index deliveries_of_task on public.deliveries (task_id);
create index deliveries_made on public.deliveries (made_task_id) where made_task_id is not null;
create index deliveries_of_user on public.deliveries (user_id, created_at desc);
comment on table public.deliveries is 'What rules have to send, and what became of it. State dead: the dead letters, which can be sent again.';
comment on column public.deliveries.id is 'Identifier; the same on every try, so that receivers can drop repeats.';
comment on column public.deliveries.state is 'pending, delivering, delivered or dead.';
comment on column public.deliveries.event is 'task. with the new state, such as task.failed; or rule.test.';
comment on column public.deliveries.rule_id is 'The rule.';
comment on column public.deliveries.task_id is 'The task whose state changed; null for a test.';
comment on column public.deliveries.action is 'That of the rule.';
comment on column public.deliveries.payload is 'What is told: {"type", "timestamp", "data"}, as it was at the change.';
comment on column public.deliveries.tries is 'How often it was tried since it was made or sent again; at 15 it is dead.';
comment on column public.deliveries.next_try_at is 'Not before this time: 5 s, doubled at each failure, an hour at most.';
comment on column public.deliveries.last_error is 'Why the last try failed.';
comment on column public.deliveries.response_status is 'The HTTP status of the last answer.';
comment on column public.deliveries.made_task_id is 'The task that was started.';
comment on column public.deliveries.created_at is 'When the state changed.';
comment on column public.deliveries.finished_at is 'When it was delivered or given up. Delivered ones are kept for 30 days.';
comment on column public.deliveries.worker_id is 'The worker that is at it.';
comment on column public.deliveries.lease_until is 'When another worker may take over.';
comment on column public.deliveries.fence is 'How often it was claimed; what a worker says of it has to name this number.';
comment on column public.deliveries.user_id is 'The person whose rule it is.';

create table public.mail_workers (
    worker_id uuid primary key,
    can_mail boolean not null,
    allowed text[] not null default '{}',
    seen_at timestamptz not null default now()
);
comment on table public.mail_workers is 'Which workers can send e-mail, as they say themselves.';
comment on column public.mail_workers.worker_id is 'The worker.';
comment on column public.mail_workers.can_mail is 'Whether a mail server is set up for it.';
comment on column public.mail_workers.allowed is 'Addresses and @domains that rules may write to beside people''s own: the operator''s PYTHONIC_MAIL_TO.';
comment on column public.mail_workers.seen_at is 'When it last said so.';

alter table public.task_changes enable row level security;
alter table public.event_rules enable row level security;
alter table public.deliveries enable row level security;
alter table public.mail_workers enable row level security;
revoke all on public.task_changes, public.event_rules, public.deliveries, public.mail_workers from anon, authenticated;
grant all on public.task_changes, public.event_rules, public.deliveries, public.mail_workers to service_role;
grant select on public.task_changes, public.event_rules, public.deliveries to authenticated;
grant insert (name, pattern, action, target, secret, enabled), update (name, pattern, target, secret, enabled), delete
    on public.event_rules to authenticated;
create policy "people see the changes of their own tasks" on public.task_changes
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people see their own rules" on public.event_rules
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people add rules of their own" on public.event_rules
    for insert to authenticated with check (user_id = (select auth.uid()));
create policy "people change their own rules" on public.event_rules
    for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "people delete their own rules" on public.event_rules
    for delete to authenticated using (user_id = (select auth.uid()));
create policy "people see their own deliveries" on public.deliveries
    for select to authenticated using (user_id = (select auth.uid()));

-- ---------------------------------------------------------------------------------------------------------
-- E-mail: to whom, and what is missing
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.mail_allowed() returns text[]
language sql stable security definer set search_path = ''
as $$
    -- A worker that has not said so for a week is gone for good, or its settings are not known any more.
    select array_agg(distinct a.address) from (
        select unnest(w.allowed || ''::text) as address from public.mail_workers w
        where w.can_mail and w.seen_at > now() - interval '7 days') a
$$;
comment on function pythonic.mail_allowed() is 'Addresses and @domains that rules may write to, with an empty one; null when no worker can send e-mail.';

create function pythonic.mail_recipient(p_user uuid, p_to text) returns text
language sql stable security definer set search_path = ''
as $$
    with given as (
        select lower(u.email) as own, u.email_confirmed_at is not null as confirmed, lower(p_to) as wanted,
            pythonic.mail_allowed() as allowed
        from auth.users u where u.id = p_user)
    select case
        when g.wanted is not null and (g.wanted = any (g.allowed) or '@' || split_part(g.wanted, '@', 2) = any (g.allowed)
            or g.wanted = g.own and g.confirmed) then g.wanted
        when g.wanted is not null then null
        -- Names that no mail reaches, such as that of the local user: RFC 2606 and RFC 6761.
        when g.own ~ '(@|[.])(example[.](com|net|org)|example|invalid|test|localhost)$' then
            (select min(a) from unnest(g.allowed) a where a like '_%@%')
        when g.confirmed then g.own
    end
    from given g
$$;
comment on function pythonic.mail_recipient(uuid, text) is 'Where an e-mail of a person''s rule goes; null when it may go nowhere.';

create function pythonic.mail_problem(p_user uuid, p_to text) returns text
language sql stable security definer set search_path = ''
as $$
    select case
        when pythonic.mail_allowed() is null then
            'No e-mail can be sent yet: set PYTHONIC_SMTP_URL and PYTHONIC_MAIL_FROM for a worker, and start it again.'
        when pythonic.mail_recipient(p_user, p_to) is not null then null
        when p_to is not null then format(
            'No e-mail may be sent to %s: the operator has to name it in PYTHONIC_MAIL_TO.', left(p_to, 320))
        else 'Your account has no confirmed address that mail reaches: name one in PYTHONIC_MAIL_TO, or in the rule.'
    end
$$;
comment on function pythonic.mail_problem(uuid, text) is 'What is missing before an e-mail can be sent to a person (p_to null) or an address, or null.';

-- ---------------------------------------------------------------------------------------------------------
-- Making rules
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.check_rule() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    v_problem text;
begin
    new.name := btrim(new.name);
    new.updated_at := now();
    if tg_op = 'UPDATE' and new.enabled and not old.enabled then
        new.paused_because := null;
    end if;
    v_problem := case
        when coalesce(char_length(new.name), 0) not between 1 and 100 then 'Give the rule a name of 1 to 100 characters.'
        when new.action is null or new.action not in ('webhook', 'email', 'task') then
            format('There is no action %s; the actions are webhook, email and task.', coalesce(quote_literal(left(new.action, 100)), 'null'))
        when tg_op = 'UPDATE' and new.action <> old.action then 'A rule''s action stays as it was made: make another rule.'
        else coalesce(pythonic.pattern_problem(new.pattern), pythonic.target_problem(new.action, new.target))
    end;
    if v_problem is null and exists (select 1 from public.event_rules r
        where r.user_id = new.user_id and r.id <> new.id and lower(btrim(r.name)) = lower(new.name)) then
        v_problem := format('There is a rule %s already: choose another name.', quote_literal(new.name));
    end if;
    if v_problem is null and new.action = 'webhook' and (tg_op = 'INSERT' or new.secret is distinct from old.secret
        or new.target is distinct from old.target) then
        v_problem := case
            when new.secret is null then 'Name the secret that signs what is sent; make one with `pythonic secrets set`.'
            -- Bound to its hosts like any secret: whoever may only change rules cannot have another host trust it.
            when not exists (select 1 from public.secrets s where s.user_id = new.user_id and s.name = new.secret
                and pythonic.host_of_url(new.target ->> 'url') = any (s.hosts)) then
                format('There is no secret %s for the host %s.', left(new.secret, 100), pythonic.host_of_url(new.target ->> 'url'))
        end;
    elsif v_problem is null and new.action <> 'webhook' and new.secret is not null then
        v_problem := 'Only webhooks are signed: leave the secret out.';
    end if;
    if v_problem is null and exists (
        select 1 from (select new.target ->> 'assistant' as id union all
            select jsonb_array_elements_text(new.pattern -> 'assistants')) n
        where n.id is not null and not exists (select 1 from public.assistants a
            where a.id = n.id::uuid and (a.user_id is null or a.user_id = new.user_id))) then
        v_problem := 'An assistant that the rule names does not exist or belongs to somebody else.';
    end if;
    if v_problem is null and tg_op = 'INSERT'
        and (select count(*) from public.event_rules r where r.user_id = new.user_id) >= 50 then
        v_problem := 'There are 50 rules already: remove one first.';
    end if;
    if v_problem is not null then
        raise exception '%', v_problem using errcode = 'invalid_parameter_value';
    end if;
    return new;
end
$$;
comment on function pythonic.check_rule() is 'Says in a sentence what is wrong with a rule.';
create trigger check_rule before insert or update of name, pattern, action, target, secret, enabled on public.event_rules
    for each row execute function pythonic.check_rule();

create function pythonic.rule_paused() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    update public.deliveries set state = 'dead', finished_at = now(),
        last_error = coalesce(last_error || ' ', '') || 'The rule was paused.'
    where rule_id = new.id and state = 'pending';
    return null;
end
$$;
comment on function pythonic.rule_paused() is 'Makes dead letters of what a paused rule had still to send.';
create trigger rule_paused after update of enabled on public.event_rules
    for each row when (old.enabled and not new.enabled) execute function pythonic.rule_paused();

create function pythonic.add_default_rule() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into public.event_rules (user_id, name, pattern, action, by_default)
    values (new.id, 'Tell me when a task fails', '{"states": ["failed"]}', 'email', true);
    return null;
end
$$;
comment on function pythonic.add_default_rule() is 'Everyone is told by e-mail when a task fails, until they say otherwise.';
create trigger add_default_rule after insert on public.profiles
    for each row execute function pythonic.add_default_rule();
insert into public.event_rules (user_id, name, pattern, action, by_default)
    select p.id, 'Tell me when a task fails', '{"states": ["failed"]}', 'email', true from public.profiles p;

-- ---------------------------------------------------------------------------------------------------------
-- From a change to deliveries
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.add_delivery(p_rule public.event_rules, p_task bigint, p_event text, p_data jsonb) returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
    v_problem text;
    v_id uuid := gen_random_uuid();
begin
    if p_rule.action = 'email' then
        v_problem := pythonic.mail_problem(p_rule.user_id, p_rule.target ->> 'to');
        if v_problem is not null and p_rule.by_default and p_task is not null then return null; end if;
        if v_problem is null and (select count(*) from public.deliveries d where d.rule_id = p_rule.id
            and d.created_at > now() - interval '1 hour' and d.state <> 'dead') >= 20 then
            v_problem := 'More than 20 e-mails of this rule within an hour are not sent.';
        end if;
    end if;
    insert into public.deliveries (id, rule_id, user_id, task_id, action, event, payload, state, last_error, finished_at)
    values (v_id, p_rule.id, p_rule.user_id, p_task, p_rule.action, p_event, jsonb_build_object(
            'type', p_event, 'timestamp', to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'data', p_data || jsonb_build_object('rule', p_rule.name)),
        case when v_problem is null then 'pending' else 'dead' end, v_problem, case when v_problem is not null then now() end);
    if v_problem is null then
        perform pythonic.tell('queue', 'delivery', '{}');
    end if;
    perform pythonic.tell('user:' || p_rule.user_id::text, 'delivery', jsonb_build_object('rule_id', p_rule.id));
    return v_id;
end
$$;
comment on function pythonic.add_delivery(public.event_rules, bigint, text, jsonb) is 'Has something delivered by a rule; at once dead when it cannot be. Null: a default rule keeps silent.';

create function pythonic.deliver_change(
    p_rule public.event_rules, p_task public.tasks, p_old text, p_why text) returns void
language plpgsql security definer set search_path = ''
as $$
begin
    perform pythonic.add_delivery(p_rule, p_task.id, 'task.' || p_task.state, jsonb_build_object(
        'task_id', p_task.id, 'thread_id', p_task.thread_id, 'assistant_id', p_task.assistant_id,
        'state', p_task.state, 'old_state', p_old, 'why', p_why, 'labels', to_jsonb(p_task.labels),
        'attempt', p_task.attempt, 'verdict', p_task.verdict, 'caused_by', p_task.caused_by,
        'prompt', left(p_task.prompt, 4000), 'answer', left(p_task.answer, 8000), 'error', left(p_task.error, 2000),
        'shortened', char_length(p_task.prompt) > 4000 or coalesce(char_length(p_task.answer), 0) > 8000
            or coalesce(char_length(p_task.error), 0) > 2000,
        'created_at', p_task.created_at, 'finished_at', p_task.finished_at));
end
$$;
comment on function pythonic.deliver_change(public.event_rules, public.tasks, text, text) is 'Has a change of state delivered by a rule.';

create function pythonic.rule_matches(p_rule public.event_rules, p_task public.tasks) returns boolean
language sql immutable set search_path = ''
as $$
    select p_task.kind = 'task'
        and (not p_rule.pattern ? 'states' or p_rule.pattern -> 'states' ? p_task.state)
        and (not p_rule.pattern ? 'verdicts' or coalesce(p_rule.pattern -> 'verdicts' ? p_task.verdict, false))
        and (not p_rule.pattern ? 'labels' or p_rule.pattern -> 'labels' ?| p_task.labels)
        -- Without an assistant it is the first of those that are built in.
        and (not p_rule.pattern ? 'assistants' or p_rule.pattern -> 'assistants' ? coalesce(
            nullif(p_task.counted_assistant::text, '00000000-0000-0000-0000-000000000000'),
            '00000000-0000-4000-8000-000000000001'))
        -- A rule never answers what it has caused, however many tasks lie between.
        and (p_rule.action <> 'task' or p_rule.id <> all (p_task.caused_by_rules))
$$;
comment on function pythonic.rule_matches(public.event_rules, public.tasks) is 'Whether a rule acts on the state that a task has come to.';

create function pythonic.record_asked() returns trigger
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_users uuid[];
    v_rule public.event_rules;
    v_task public.tasks;
begin
    insert into public.task_changes (task_id, user_id, state, why, detail, attempt)
        select a.id, a.user_id, a.state, pythonic.why_changed(null, a.state, 0, 0, a.caused_by_rules <> '{}'),
            left(a.held_because, 500), a.attempt
        from added a order by a.id;
    select array_agg(distinct a.user_id) into v_users from added a where a.kind = 'task';
    for v_rule in
        select r.* from public.event_rules r where r.user_id = any (v_users) and r.enabled
            and (not r.pattern ? 'states' or r.pattern -> 'states' ?| '{scheduled,held,queued}')
        order by r.created_at, r.id
    loop
        for v_task in select a.* from added a
            where a.user_id = v_rule.user_id and pythonic.rule_matches(v_rule, a::public.tasks) order by a.id loop
            perform pythonic.deliver_change(v_rule, v_task, null,
                pythonic.why_changed(null, v_task.state, 0, 0, v_task.caused_by_rules <> '{}'));
        end loop;
    end loop;
    return null;
end
$$;
comment on function pythonic.record_asked() is 'Records that tasks were asked, and has rules act on it, in the same transaction.';

create function pythonic.record_changed() returns trigger
language plpgsql security definer set search_path = ''
    set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_users uuid[];
    v_states text[];
    v_rule public.event_rules;
    v_found record;
begin
    -- Most updates are heartbeats, and change no state.
    select array_agg(distinct n.user_id), array_agg(distinct n.state) into v_users, v_states
        from changed n join former f on f.id = n.id where n.state <> f.state;
    if v_users is null then return null; end if;
    insert into public.task_changes (task_id, user_id, old_state, state, why, detail, attempt)
        select n.id, n.user_id, f.state, n.state,
            pythonic.why_changed(f.state, n.state, f.failures, n.failures, false),
            left(case
                when n.state = 'held' then n.held_because
                when n.state = 'waiting' then n.waiting_for
                when n.state = 'failed' or f.state = 'running' and n.state = 'scheduled' then n.error
            end, 500), n.attempt
        from changed n join former f on f.id = n.id where n.state <> f.state order by n.id;
    for v_rule in
        select r.* from public.event_rules r where r.user_id = any (v_users) and r.enabled
            and (not r.pattern ? 'states' or r.pattern -> 'states' ?| v_states)
        order by r.created_at, r.id
    loop
        for v_found in select n::public.tasks as task, f.state as old_state,
                pythonic.why_changed(f.state, n.state, f.failures, n.failures, false) as why
            from changed n join former f on f.id = n.id
            where n.state <> f.state and n.user_id = v_rule.user_id and pythonic.rule_matches(v_rule, n::public.tasks)
            order by n.id loop
            perform pythonic.deliver_change(v_rule, v_found.task, v_found.old_state, v_found.why);
        end loop;
    end loop;
    return null;
end
$$;
comment on function pythonic.record_changed() is 'Records changes of state, and has rules act on them, in the same transaction.';
-- Once for each statement: a claim changes many tasks.
create trigger tasks_asked_recorded after insert on public.tasks
    referencing new table as added for each statement execute function pythonic.record_asked();
create trigger tasks_state_recorded after update on public.tasks
    referencing old table as former new table as changed for each statement execute function pythonic.record_changed();

-- ---------------------------------------------------------------------------------------------------------
-- For people
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.test_rule(p_rule uuid) returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
    v_rule public.event_rules;
begin
    select * into v_rule from public.event_rules r
        where r.id = p_rule and (auth.uid() is null or r.user_id = auth.uid());
    if not found then
        raise exception 'There is no such rule of yours.' using errcode = 'insufficient_privilege';
    end if;
    if not v_rule.enabled then
        raise exception 'The rule is paused: let it go on before you try it.' using errcode = 'invalid_parameter_value';
    end if;
    return pythonic.add_delivery(v_rule, null, 'rule.test', jsonb_build_object(
        'task_id', 0, 'thread_id', null, 'state', 'failed', 'old_state', 'running', 'why', 'failed', 'attempt', 1,
        'verdict', null, 'prompt', 'This is only a test of a rule.', 'answer', null,
        'error', 'Nothing has failed: somebody tried the rule.', 'shortened', false,
        'created_at', now(), 'finished_at', now()));
end
$$;
comment on function pythonic.test_rule(uuid) is 'Delivers a made-up event by a rule of the caller, now; returns the delivery.';

create function pythonic.resend_delivery(p_delivery uuid) returns text
language plpgsql security definer set search_path = ''
as $$
declare
    v_found public.deliveries;
    v_rule public.event_rules;
    v_problem text;
begin
    select * into v_found from public.deliveries d
        where d.id = p_delivery and (auth.uid() is null or d.user_id = auth.uid()) for update;
    if not found then
        raise exception 'There is no such delivery of yours.' using errcode = 'insufficient_privilege';
    end if;
    select * into v_rule from public.event_rules r where r.id = v_found.rule_id;
    v_problem := case
        when v_found.state in ('pending', 'delivering') then null
        when not v_rule.enabled then 'The rule is paused: let it go on, then send this again.'
        when v_found.action = 'task' and v_found.state = 'delivered' then 'Its task was started already, and is started once only.'
        when v_found.action = 'email' then pythonic.mail_problem(v_found.user_id, v_rule.target ->> 'to')
    end;
    if v_problem is not null then
        raise exception '%', v_problem using errcode = 'invalid_parameter_value';
    end if;
    if v_found.state <> 'delivering' then
        update public.deliveries set state = 'pending', tries = 0, next_try_at = now(), finished_at = null
            where id = p_delivery;
        perform pythonic.tell('queue', 'delivery', '{}');
    end if;
    return case v_found.state when 'delivering' then 'delivering' else 'pending' end;
end
$$;
comment on function pythonic.resend_delivery(uuid) is 'Sends a dead or delivered letter of the caller again, under its own id; what waits for its next try goes at once.';

-- ---------------------------------------------------------------------------------------------------------
-- For workers
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.wait_after(p_tries integer) returns interval
language sql volatile set search_path = ''
as $$ select make_interval(secs => least(5 * 2 ^ greatest(p_tries - 1, 0), 3600) * (0.8 + 0.4 * random())) $$;
comment on function pythonic.wait_after(integer) is 'Before the next try after so many: 5 s, doubled, an hour at most, a fifth more or less.';

create function pythonic.claim_deliveries(
    p_worker uuid, p_can_mail boolean, p_allowed text[], p_most integer, p_lease_seconds double precision) returns jsonb
language plpgsql security definer set search_path = '' set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_found jsonb;
    v_next double precision;
begin
    insert into public.mail_workers as w (worker_id, can_mail, allowed)
    values (p_worker, p_can_mail, coalesce(p_allowed, '{}'))
    on conflict (worker_id) do update set can_mail = excluded.can_mail, allowed = excluded.allowed, seen_at = now()
    where (w.can_mail, w.allowed) is distinct from (excluded.can_mail, excluded.allowed)
        or w.seen_at < now() - interval '1 hour';
    if found then  -- about once an hour
        delete from public.deliveries where id = any (array(
            select d.id from public.deliveries d where d.state = 'delivered' and d.finished_at < now() - interval '30 days'
            order by d.finished_at limit 10000 for update skip locked));
    end if;

    -- What a worker was at when it was lost: whether it arrived is not known, so it is sent again under its own id.
    update public.deliveries d set worker_id = null, lease_until = null,
        state = case when d.tries >= 15 or not r.enabled then 'dead' else 'pending' end,
        finished_at = case when d.tries >= 15 or not r.enabled then now() end,
        last_error = 'The worker that delivered this was lost.' || case when r.enabled then '' else ' The rule was paused.' end,
        next_try_at = now() + pythonic.wait_after(d.tries)
    from public.event_rules r
    where r.id = d.rule_id and d.id = any (array(
        select l.id from public.deliveries l where l.state = 'delivering' and l.lease_until < now()
        order by l.lease_until limit 100 for update skip locked));

    with claimed as (
        update public.deliveries d set state = 'delivering', tries = d.tries + 1, fence = d.fence + 1,
            worker_id = p_worker, lease_until = now() + make_interval(secs => p_lease_seconds)
        where d.id = any (array(
            select q.id from public.deliveries q
            where q.state = 'pending' and q.next_try_at <= now() and (p_can_mail or q.action <> 'email')
            order by q.next_try_at limit greatest(p_most, 0) for update skip locked))
        returning d.*
    )
    select jsonb_agg(jsonb_build_object(
        'id', c.id, 'fence', c.fence, 'action', c.action, 'event', c.event, 'payload', c.payload, 'user_id', c.user_id,
        'rule', r.name, 'target', r.target, 'secret', r.secret,
        'to', case when c.action = 'email' then pythonic.mail_recipient(c.user_id, r.target ->> 'to') end))
    into v_found
    from claimed c join public.event_rules r on r.id = c.rule_id;

    select extract(epoch from min(n.at) - now()) into v_next from (
        select min(d.next_try_at) as at from public.deliveries d
            where d.state = 'pending' and (p_can_mail or d.action <> 'email')
        union all select min(d.lease_until) from public.deliveries d where d.state = 'delivering') n;
    return jsonb_build_object('deliveries', coalesce(v_found, '[]'), 'next_due_seconds', v_next);
end
$$;
comment on function pythonic.claim_deliveries(uuid, boolean, text[], integer, double precision) is
    'Claims up to n due deliveries for a worker that can send e-mail or not, and says when the next is due.';

create function pythonic.finish_delivery(p_worker uuid, p_delivery uuid, p_fence integer, p_status integer) returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_done public.deliveries;
begin
    update public.deliveries d set state = 'delivered', finished_at = now(), worker_id = null, lease_until = null,
        last_error = null, response_status = p_status
    where d.id = p_delivery and d.fence = p_fence and d.worker_id = p_worker
    returning * into v_done;
    if not found then return false; end if;
    perform pythonic.tell('user:' || v_done.user_id::text, 'delivery', jsonb_build_object('rule_id', v_done.rule_id));
    return true;
end
$$;
comment on function pythonic.finish_delivery(uuid, uuid, integer, integer) is 'A delivery has arrived. False: another worker has it by now.';

create function pythonic.fail_delivery(
    p_worker uuid, p_delivery uuid, p_fence integer, p_error text, p_retryable boolean, p_status integer) returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_failed public.deliveries;
    v_again boolean;
begin
    select * into v_failed from public.deliveries d
        where d.id = p_delivery and d.fence = p_fence and d.worker_id = p_worker for update;
    if not found then return false; end if;
    v_again := p_retryable and v_failed.tries < 15
        and exists (select 1 from public.event_rules r where r.id = v_failed.rule_id and r.enabled);
    update public.deliveries d set state = case when v_again then 'pending' else 'dead' end,
        finished_at = case when not v_again then now() end, worker_id = null, lease_until = null,
        last_error = left(p_error, 1000), response_status = p_status,
        next_try_at = case when v_again then now() + pythonic.wait_after(d.tries) else d.next_try_at end
    where d.id = p_delivery;
    -- 410 Gone: the receiver wants no more (Standard Webhooks, "Deliverability and reliability").
    if p_status = 410 and v_failed.action = 'webhook' then
        update public.event_rules set enabled = false,
            paused_because = 'The receiver answered 410 Gone: it wants no more of these.'
        where id = v_failed.rule_id and enabled;
    end if;
    perform pythonic.tell('user:' || v_failed.user_id::text, 'delivery', jsonb_build_object('rule_id', v_failed.rule_id));
    return true;
end
$$;
comment on function pythonic.fail_delivery(uuid, uuid, integer, text, boolean, integer) is
    'A try failed: again later, at most 15 times, or never. False: another worker has it by now.';

create function pythonic.start_caused_task(p_worker uuid, p_delivery uuid, p_fence integer, p_prompt text) returns bigint
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_delivery public.deliveries;
    v_rule public.event_rules;
    v_cause public.tasks;
    v_made bigint;
begin
    select * into v_delivery from public.deliveries d where d.id = p_delivery;
    if not found then return null; end if;
    -- The order of locks of the queue: admission of the person, then tasks; deliveries come last.
    perform pythonic.lock_admissions(array[v_delivery.user_id]);
    select * into v_cause from public.tasks t where t.id = v_delivery.task_id for key share;
    select * into v_delivery from public.deliveries d
        where d.id = p_delivery and d.fence = p_fence and d.worker_id = p_worker for update;
    if not found then return null; end if;
    select * into v_rule from public.event_rules r where r.id = v_delivery.rule_id;
    if cardinality(v_cause.caused_by_rules) >= 3 then
        raise exception 'No task was started: task % is the third in a chain of rules, and a chain ends there.', v_cause.id
            using errcode = 'invalid_parameter_value';
    end if;
    insert into public.tasks
        (user_id, prompt, thread_id, assistant_id, queue, labels, dedupe_key, caused_by, caused_by_rules)
    values (v_delivery.user_id, p_prompt,
        case when v_rule.target -> 'same_thread' = 'true' then v_cause.thread_id end,
        coalesce((v_rule.target ->> 'assistant')::uuid, v_cause.assistant_id),
        coalesce(v_cause.queue, 'default'), coalesce(v_cause.labels, '{}'), 'delivery:' || v_delivery.id::text, v_cause.id,
        coalesce(v_cause.caused_by_rules, '{}') || v_rule.id)
    returning id into v_made;
    update public.deliveries set state = 'delivered', finished_at = now(), worker_id = null, lease_until = null,
        last_error = null, made_task_id = v_made where id = p_delivery;
    perform pythonic.tell('user:' || v_delivery.user_id::text, 'delivery', jsonb_build_object('rule_id', v_delivery.rule_id));
    return v_made;
end
$$;
comment on function pythonic.start_caused_task(uuid, uuid, integer, text) is
    'Starts the task of a delivery and ends the delivery in one transaction: once. Null: another worker has it by now.';

-- ---------------------------------------------------------------------------------------------------------
-- Thin wrappers in public, and who may call them
-- ---------------------------------------------------------------------------------------------------------

create function public.test_rule(rule uuid) returns uuid
    language sql security invoker set search_path = '' as $$ select pythonic.test_rule(rule) $$;
comment on function public.test_rule(uuid) is 'Delivers a made-up event by a rule of the caller, now.';
create function public.resend_delivery(delivery uuid) returns text
    language sql security invoker set search_path = '' as $$ select pythonic.resend_delivery(delivery) $$;
comment on function public.resend_delivery(uuid) is 'Sends a dead or delivered letter of the caller again.';
create function public.mail_problem(address text default null) returns text
    language sql stable security invoker set search_path = '' as $$ select pythonic.mail_problem(auth.uid(), address) $$;
comment on function public.mail_problem(text) is 'What is missing before an e-mail can be sent to the caller, or to this address, or null.';
create function public.claim_deliveries(worker uuid, can_mail boolean, allowed text[], most integer,
    lease_seconds double precision) returns jsonb
    language sql security invoker set search_path = ''
    as $$ select pythonic.claim_deliveries(worker, can_mail, allowed, most, lease_seconds) $$;
comment on function public.claim_deliveries(uuid, boolean, text[], integer, double precision) is 'For workers: claims deliveries.';
create function public.finish_delivery(worker uuid, delivery uuid, fence integer, status integer default null) returns boolean
    language sql security invoker set search_path = ''
    as $$ select pythonic.finish_delivery(worker, delivery, fence, status) $$;
comment on function public.finish_delivery(uuid, uuid, integer, integer) is 'For workers: a delivery has arrived.';
create function public.fail_delivery(worker uuid, delivery uuid, fence integer, error text, retryable boolean,
    status integer default null) returns boolean
    language sql security invoker set search_path = ''
    as $$ select pythonic.fail_delivery(worker, delivery, fence, error, retryable, status) $$;
comment on function public.fail_delivery(uuid, uuid, integer, text, boolean, integer) is 'For workers: a try failed.';
create function public.start_caused_task(worker uuid, delivery uuid, fence integer, prompt text) returns bigint
    language sql security invoker set search_path = ''
    as $$ select pythonic.start_caused_task(worker, delivery, fence, prompt) $$;
comment on function public.start_caused_task(uuid, uuid, integer, text) is 'For workers: starts the task of a delivery.';

revoke all on function pythonic.why_changed, pythonic.pattern_problem, pythonic.host_of_url, pythonic.webhook_problem,
    pythonic.template_problem, pythonic.target_problem, pythonic.mail_allowed, pythonic.mail_recipient,
    pythonic.mail_problem, pythonic.check_rule, pythonic.rule_paused, pythonic.add_default_rule, pythonic.add_delivery,
    pythonic.deliver_change, pythonic.rule_matches, pythonic.record_asked, pythonic.record_changed, pythonic.test_rule, pythonic.resend_delivery, pythonic.wait_after,
    pythonic.claim_deliveries, pythonic.finish_delivery, pythonic.fail_delivery, pythonic.start_caused_task from public;
revoke all on function public.test_rule, public.resend_delivery, public.mail_problem, public.claim_deliveries,
    public.finish_delivery, public.fail_delivery, public.start_caused_task from public, anon, authenticated;

-- Constraints are evaluated with the rights of whoever writes the row.
grant execute on function pythonic.pattern_problem, pythonic.target_problem, pythonic.webhook_problem,
    pythonic.host_of_url, pythonic.template_problem to authenticated, service_role;
grant execute on function public.test_rule, public.resend_delivery, public.mail_problem, pythonic.test_rule,
    pythonic.resend_delivery, pythonic.mail_problem to authenticated, service_role;
grant execute on function public.claim_deliveries, public.finish_delivery, public.fail_delivery, public.start_caused_task,
    pythonic.claim_deliveries, pythonic.finish_delivery, pythonic.fail_delivery, pythonic.start_caused_task to service_role;
