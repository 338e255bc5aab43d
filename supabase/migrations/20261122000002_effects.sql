-- Outside actions happen once: a ledger of effects, people's decisions about them, and the conversation of a task,
-- so that a new attempt goes on exactly where the last one stood. docs/adr/0015 says why it is built like this.

-- ---------------------------------------------------------------------------------------------------------
-- The conversation
-- ---------------------------------------------------------------------------------------------------------

create table public.task_items (
    task_id bigint not null references public.tasks (id) on delete cascade,
    position integer not null check (position >= 0),
    item jsonb not null check (jsonb_typeof(item) = 'object'),
    data jsonb,
    attempt integer not null,
    user_id uuid not null references public.profiles (id) on delete cascade,
    primary key (task_id, position)
);
comment on table public.task_items is 'The conversation of a task with its model, in order. A new attempt goes on at its end; no reply is asked for twice.';
comment on column public.task_items.task_id is 'The task.';
comment on column public.task_items.position is 'Place in the conversation, from 0.';
comment on column public.task_items.item is 'What was said, replied, or came of code: {"kind": "said" | "reply" | "code_result", ...}.';
comment on column public.task_items.data is 'The JSON that a reply was read as, where JSON had been asked for.';
comment on column public.task_items.attempt is 'The attempt that added it.';
comment on column public.task_items.user_id is 'The person whose task it is.';

-- ---------------------------------------------------------------------------------------------------------
-- Effects, approvals, standing rules
-- ---------------------------------------------------------------------------------------------------------

alter table public.assistants
    add column write_policy text not null default 'allow' check (write_policy in ('allow', 'ask'));
comment on column public.assistants.write_policy is
    'allow: what can be undone is done when its host or tool was granted. ask: a person is asked before each such action.';
grant insert (write_policy), update (write_policy) on public.assistants to authenticated;

create table public.effects (
    id bigint generated always as identity primary key,
    task_id bigint not null references public.tasks (id) on delete cascade,
    asking integer not null default 0,
    effect_key text not null check (char_length(effect_key) between 1 and 300),
    step_id text not null default '' check (char_length(step_id) <= 100),
    execution integer not null default 0,
    attempt integer not null,
    met_attempt integer not null,
    call text not null check (char_length(call) between 1 and 100),
    kind text not null check (kind in ('tool', 'request')),
    name text not null check (char_length(name) between 1 and 500),
    digest text not null check (digest ~ '^[0-9a-f]{64}$'),
    risk text not null check (risk in ('read', 'write', 'irreversible')),
    request jsonb not null default '{}',
    state text not null default 'proposed' check (state in
        ('proposed', 'approved', 'started', 'succeeded', 'failed', 'unknown', 'refused', 'skipped')),
    idempotency_key text not null check (char_length(idempotency_key) between 1 and 300),
    repeatable boolean not null default false,
    result jsonb,
    error text,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    user_id uuid not null references public.profiles (id) on delete cascade,
    unique (task_id, asking, effect_key)
) with (fillfactor = 80);
create index effects_of_user on public.effects (user_id, id desc);
create index effects_open on public.effects (task_id) where state in ('proposed', 'approved', 'started', 'unknown');
comment on table public.effects is 'The ledger: each action outside of our own tables, written before it is done. Code that runs once more is given the recorded result.';
comment on column public.effects.id is 'Identifier.';
comment on column public.effects.task_id is 'The task.';
comment on column public.effects.asking is 'tasks.asked_attempt when it was done: a task that is asked again from the start acts again.';
comment on column public.effects.effect_key is 'Step, digest of the action, and the how-manyth same action within one execution.';
comment on column public.effects.step_id is 'The step whose code acts.';
comment on column public.effects.execution is 'The execution within that step which last began it.';
comment on column public.effects.attempt is 'The attempt that last began it.';
comment on column public.effects.met_attempt is 'The last attempt whose code came to it.';
comment on column public.effects.call is 'The one call that began it: the same beginning may be written twice.';
comment on column public.effects.kind is 'tool, or request: HTTP by generated code.';
comment on column public.effects.name is 'The tool, or method, host and path, such as POST api.example.org/v1/items.';
comment on column public.effects.digest is 'SHA-256 of name and canonical arguments, in hex.';
comment on column public.effects.risk is 'read, write (can be undone) or irreversible.';
comment on column public.effects.request is 'What is done: arguments, or method, URL, headers that matter and body; placeholders stand for secrets.';
comment on column public.effects.state is 'proposed, approved, started, succeeded, failed (known not to have happened), unknown, refused or skipped.';
comment on column public.effects.idempotency_key is 'Given to the other side where it takes one; the same whenever the action is tried again.';
comment on column public.effects.repeatable is 'The other side knows the idempotency key, so an unknown outcome is settled by sending again.';
comment on column public.effects.result is 'What came back, as the code got it.';
comment on column public.effects.error is 'Why there is no result.';
comment on column public.effects.created_at is 'When code first came to it.';
comment on column public.effects.started_at is 'When it was last begun.';
comment on column public.effects.finished_at is 'When its outcome was known.';
comment on column public.effects.user_id is 'The person whose task it is.';

create table public.approvals (
    id bigint generated always as identity primary key,
    task_id bigint not null references public.tasks (id) on delete cascade,
    effect_id bigint not null references public.effects (id) on delete cascade,
    attempt integer not null,
    kind text not null check (kind in ('effect', 'unknown', 'question')),
    question text not null check (char_length(question) between 1 and 10000),
    preview jsonb not null default '{}',
    choices jsonb not null default '[]' check (jsonb_typeof(choices) = 'array'),
    standing jsonb,
    state text not null default 'pending' check (state in
        ('pending', 'approved', 'refused', 'answered', 'expired', 'cancelled')),
    answer text check (char_length(answer) <= 20000),
    created_at timestamptz not null default now(),
    expires_at timestamptz not null default now() + interval '7 days',
    decided_at timestamptz,
    decided_by uuid references public.profiles (id) on delete set null,
    user_id uuid not null references public.profiles (id) on delete cascade,
    constraint decided_has_a_time check ((state = 'pending') = (decided_at is null))
);
create unique index approvals_pending on public.approvals (effect_id) where state = 'pending';
create index approvals_of_task on public.approvals (task_id, id);
create index approvals_waiting on public.approvals (user_id, id) where state = 'pending';
create index approvals_expiring on public.approvals (expires_at) where state = 'pending';
comment on table public.approvals is 'What a task waits for: a yes to an action, word about one whose outcome is unknown, or the answer to a question.';
comment on column public.approvals.id is 'Identifier.';
comment on column public.approvals.task_id is 'The task that waits.';
comment on column public.approvals.effect_id is 'The action, or the question, in the ledger.';
comment on column public.approvals.attempt is 'The attempt that asked.';
comment on column public.approvals.kind is 'effect: may it be done? unknown: did it happen? question: of the assistant.';
comment on column public.approvals.question is 'What is asked, in a sentence or a few.';
comment on column public.approvals.preview is 'Exactly what would be done: {"form": "fields" | "rows" | "request" | "question", ...}; placeholders stand for secrets.';
comment on column public.approvals.choices is 'What can be answered: an array of {"decision", "label"}; of a question an array of texts, empty for free text.';
comment on column public.approvals.standing is 'The rule that "always" would make: {"tool", "recipient"} or {"host", "method"}; null where there is none.';
comment on column public.approvals.state is 'pending, approved, refused, answered, expired or cancelled.';
comment on column public.approvals.answer is 'The answer to a question, or what was decided about an unknown outcome: happened, again or stop.';
comment on column public.approvals.created_at is 'When it was asked.';
comment on column public.approvals.expires_at is 'When the task goes on with the answer that nobody decided.';
comment on column public.approvals.decided_at is 'When it was decided.';
comment on column public.approvals.decided_by is 'Who decided.';
comment on column public.approvals.user_id is 'The person who is asked.';

create table public.standing_rules (
    id bigint generated always as identity primary key,
    user_id uuid not null references public.profiles (id) on delete cascade,
    tool text check (char_length(tool) between 1 and 100),
    recipient jsonb,
    host text check (char_length(host) between 1 and 253),
    method text check (method ~ '^[A-Z]{1,20}$'),
    created_from bigint references public.approvals (id) on delete set null,
    created_at timestamptz not null default now(),
    -- As narrow as it can be said: never a tool for everybody, never a host for every method.
    constraint standing_rules_are_narrow check (
        (tool is not null and recipient is not null and jsonb_typeof(recipient) = 'object' and recipient <> '{}'
            and host is null and method is null)
        or (host is not null and method is not null and tool is null and recipient is null))
);
create unique index standing_rules_once on public.standing_rules
    (user_id, coalesce(tool, ''), coalesce(recipient, '{}'), coalesce(host, ''), coalesce(method, ''));
comment on table public.standing_rules is 'What a person has allowed for good: a tool for one recipient, or a method at one host.';
comment on column public.standing_rules.id is 'Identifier.';
comment on column public.standing_rules.user_id is 'Whose tasks it holds for.';
comment on column public.standing_rules.tool is 'The tool.';
comment on column public.standing_rules.recipient is 'The arguments that name the recipient; they have to be equal.';
comment on column public.standing_rules.host is 'The host of requests by code.';
comment on column public.standing_rules.method is 'The method of requests by code.';
comment on column public.standing_rules.created_from is 'The approval with which it was made.';
comment on column public.standing_rules.created_at is 'When.';

alter table public.task_items enable row level security;
alter table public.effects enable row level security;
alter table public.approvals enable row level security;
alter table public.standing_rules enable row level security;
revoke all on public.task_items, public.effects, public.approvals, public.standing_rules from anon, authenticated;
grant select on public.task_items, public.effects, public.approvals, public.standing_rules to authenticated;
grant delete on public.standing_rules to authenticated;
-- The service role reads; it writes through the functions like everybody.
revoke all on public.task_items, public.effects, public.approvals, public.standing_rules from service_role;
grant select on public.task_items, public.effects, public.approvals, public.standing_rules to service_role;

create policy "people see the conversations of their own tasks" on public.task_items
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people see the effects of their own tasks" on public.effects
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people see what they are asked" on public.approvals
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people see their own standing rules" on public.standing_rules
    for select to authenticated using (user_id = (select auth.uid()));
create policy "people withdraw their own standing rules" on public.standing_rules
    for delete to authenticated using (user_id = (select auth.uid()));

-- ---------------------------------------------------------------------------------------------------------
-- The conversation is kept with the events
-- ---------------------------------------------------------------------------------------------------------

create or replace function pythonic.durable_kinds() returns text[]
language sql immutable set search_path = ''
as $$
    select '{plan_made,step_finished,item_added,egress_begun,run_waiting,run_succeeded,run_failed}'::text[]
$$;
comment on function pythonic.durable_kinds() is 'Events that are on the disk before append_events answers.';

create or replace function pythonic.apply_event(p_task public.tasks, p_attempt integer, p_event jsonb) returns void
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_position integer;
    v_attempt integer;
begin
    if p_event ->> 'kind' <> 'item_added' then
        perform pythonic.apply_event_to_steps(p_task, p_attempt, p_event);
        return;
    end if;
    v_position := (p_event -> 'data' ->> 'position')::integer;
    select i.attempt into v_attempt from public.task_items i where i.task_id = p_task.id and i.position = v_position;
    if v_attempt = p_attempt then return; end if;  -- the same event, sent again
    -- Whoever says something else in this place has left what came after it.
    delete from public.task_items i where i.task_id = p_task.id and i.position >= v_position;
    insert into public.task_items (task_id, position, item, data, attempt, user_id)
    values (p_task.id, v_position, p_event -> 'data' -> 'item',
        nullif(p_event -> 'data' -> 'data', 'null'), p_attempt, p_task.user_id);
end
$$;
comment on function pythonic.apply_event(public.tasks, integer, jsonb) is
    'What one stored event changes elsewhere: the conversation, and steps, artifacts and variables.';

create or replace function pythonic.claim_extra(p_task public.tasks) returns jsonb
language sql stable security definer set search_path = ''
as $$
    select jsonb_build_object(
        'items', coalesce((
            select jsonb_agg(jsonb_build_object('item', i.item, 'data', i.data) order by i.position)
            from public.task_items i where i.task_id = p_task.id), '[]'),
        -- What earlier attempts spent since a person last asked for the task.
        'spent', coalesce((
            select jsonb_build_object('turns', count(*),
                'input_tokens', coalesce(sum((e.data -> 'usage' ->> 'input_tokens')::bigint), 0),
                'output_tokens', coalesce(sum((e.data -> 'usage' ->> 'output_tokens')::bigint), 0),
                'cost', sum((e.data -> 'usage' ->> 'cost')::double precision))
            from public.task_events e
            where e.task_id = p_task.id and e.attempt > p_task.asked_attempt and e.kind = 'item_added'
                and jsonb_typeof(e.data -> 'usage') = 'object'), '{}'),
        'effects', coalesce((
            select jsonb_agg(jsonb_build_object('step_id', f.step_id, 'name', f.name, 'state', f.state) order by f.id)
            from (select * from public.effects e
                  where e.task_id = p_task.id and e.asking = p_task.asked_attempt order by e.id desc limit 50) f), '[]'))
$$;
comment on function pythonic.claim_extra(public.tasks) is
    'What a claim hands back beyond the task: the conversation, what it has cost, and what was done outside.';

-- ---------------------------------------------------------------------------------------------------------
-- The ledger: for workers
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.must_ask(p_task public.tasks, p_effect jsonb) returns boolean
language sql stable security definer set search_path = ''
as $$
    select case
        when p_effect ->> 'question' is not null then true
        when p_effect ->> 'risk' = 'read' then false
        when p_effect ->> 'risk' = 'write' and not exists (
            select 1 from public.assistants a
            where a.id = coalesce(p_task.assistant_id,
                    (select th.assistant_id from public.threads th where th.id = p_task.thread_id))
                and (a.user_id is null or a.user_id = p_task.user_id) and a.write_policy = 'ask') then false
        else not exists (
            select 1 from public.standing_rules r
            where r.user_id = p_task.user_id and case p_effect ->> 'kind'
                when 'tool' then r.tool = p_effect -> 'standing' ->> 'tool'
                    and r.recipient = p_effect -> 'standing' -> 'recipient'
                -- A rule about requests never reaches further than what can be undone.
                else r.host = p_effect -> 'standing' ->> 'host' and r.method = p_effect -> 'standing' ->> 'method'
                    and p_effect ->> 'risk' = 'write' end)
    end
$$;
comment on function pythonic.must_ask(public.tasks, jsonb) is
    'Whether a person has to be asked: reading is free; writing by the assistant''s write_policy; irreversible always, but for a standing rule.';

create function pythonic.ask(
    p_effect public.effects, p_attempt integer, p_kind text, p_question text, p_preview jsonb, p_choices jsonb,
    p_standing jsonb)
returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    v_id bigint;
begin
    insert into public.approvals (task_id, effect_id, attempt, kind, question, preview, choices, standing, user_id)
    values (p_effect.task_id, p_effect.id, p_attempt, p_kind, left(p_question, 10000), coalesce(p_preview, '{}'),
        coalesce(p_choices, '[]'), nullif(p_standing, 'null'), p_effect.user_id)
    on conflict (effect_id) where state = 'pending' do nothing
    returning id into v_id;
    if v_id is null then
        update public.approvals a set attempt = p_attempt where a.effect_id = p_effect.id and a.state = 'pending'
            returning a.id into v_id;
    else
        perform pythonic.tell('user:' || p_effect.user_id::text, 'approvals',
            jsonb_build_object('task_id', p_effect.task_id, 'approval_id', v_id, 'state', 'pending'));
    end if;
    return v_id;
end
$$;
comment on function pythonic.ask(public.effects, integer, text, text, jsonb, jsonb, jsonb) is
    'Asks the person about an effect, once; returns the approval.';

create function pythonic.begin_effect(p_worker uuid, p_task bigint, p_attempt integer, p_effect jsonb) returns jsonb
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_task public.tasks;
    v_effect public.effects;
    v_other public.effects;
    v_rerun boolean := coalesce((p_effect ->> 'rerun')::boolean, false);
    v_execution integer := coalesce((p_effect ->> 'execution')::integer, 0);
    v_step text := coalesce(p_effect ->> 'step_id', '');
    v_note text := '';
begin
    -- The lock holds off a reaper, so that no effect is begun under a lease that is being taken away.
    select * into v_task from public.tasks t
        where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker and t.state = 'running' for share;
    if not found then return '{"do": "lost"}'; end if;

    select * into v_effect from public.effects e
        where e.task_id = p_task and e.asking = v_task.asked_attempt and e.effect_key = p_effect ->> 'effect_key'
        for update;
    if not found then
        if v_rerun then
            return jsonb_build_object('do', 'refused', 'why',
                'This code runs once more to rebuild what it had made, and this action is not among those that it '
                'did before, so it is not done.');
        end if;
        -- An action like this one whose outcome nobody knows has to be settled first: doing it again, on purpose
        -- or not, could be doing it twice.
        select * into v_other from public.effects e
            where e.task_id = p_task and e.asking = v_task.asked_attempt and e.digest = p_effect ->> 'digest'
                and (e.state = 'unknown' or e.state = 'started' and e.attempt < p_attempt)
            order by e.id limit 1 for update;
        if found then
            update public.effects set state = 'unknown', finished_at = coalesce(finished_at, now())
                where id = v_other.id and state = 'started';
            return jsonb_build_object('do', 'unknown', 'effect_key', v_other.effect_key,
                'idempotency_key', v_other.idempotency_key);
        end if;
        -- Code that meets a success whose answer cannot be given back gets an error, and may call once more because
        -- of it. That is no wish to do it again.
        select * into v_other from public.effects e
            where e.task_id = p_task and e.asking = v_task.asked_attempt and e.step_id = v_step
                and e.digest = p_effect ->> 'digest' and e.state = 'succeeded'
                and (e.attempt, e.execution) <> (p_attempt, v_execution)
                and (e.result is null and (e.kind = 'request' or e.error is not null)
                    or e.kind = 'request' and e.result -> 'too_large' = 'true')
            order by e.id desc limit 1;
        if found then
            return jsonb_build_object('do', 'done', 'state', v_other.state, 'result', v_other.result, 'error', v_other.error);
        end if;
        -- The same execution was interrupted and runs again. What it does now under the same name with other
        -- arguments may be what it did then, with another time or another random value in it.
        select * into v_other from public.effects e
            where e.task_id = p_task and e.asking = v_task.asked_attempt and e.step_id = v_step
                and e.execution = v_execution and e.kind = p_effect ->> 'kind' and e.name = left(p_effect ->> 'name', 500)
                and e.attempt < p_attempt and e.met_attempt < p_attempt
                and e.state in ('started', 'unknown', 'succeeded', 'approved', 'refused', 'skipped')
            order by e.id desc limit 1;
        if found and v_other.state in ('approved', 'refused', 'skipped') then
            return jsonb_build_object('do', 'refused', 'why', format(
                '%s was %s by a person with other arguments, and these change each time the code runs. Work them out '
                'once, write them into the code as constants, and call again.', v_other.name,
                case v_other.state when 'approved' then 'approved' else 'not allowed' end));
        elsif found then
            v_note := format(' Before it was interrupted, the same code did %s with other arguments (%s): approve only '
                'if this shall happen in addition.', v_other.name,
                case v_other.state when 'succeeded' then 'it succeeded' else 'its outcome is not known' end);
        end if;
        if (select count(*) from public.effects e where e.task_id = p_task) >= 5000 then
            return jsonb_build_object('do', 'refused', 'why',
                'This task has acted 5,000 times outside, which is the most for one task: split the work.');
        end if;
        insert into public.effects (task_id, asking, effect_key, step_id, execution, attempt, met_attempt, call, kind,
            name, digest, risk, request, idempotency_key, repeatable, user_id)
        values (p_task, v_task.asked_attempt, p_effect ->> 'effect_key', v_step, v_execution, p_attempt, p_attempt,
            p_effect ->> 'call', p_effect ->> 'kind', left(p_effect ->> 'name', 500), p_effect ->> 'digest',
            p_effect ->> 'risk', coalesce(p_effect -> 'request', '{}'),
            coalesce(p_effect ->> 'idempotency_key',
                format('pythonic-%s-%s-%s', p_task, v_task.asked_attempt, p_effect ->> 'effect_key')),
            coalesce((p_effect ->> 'repeatable')::boolean, false), v_task.user_id)
        on conflict (task_id, asking, effect_key) do nothing
        returning * into v_effect;
        if not found then  -- somebody was faster in this very moment: look again
            return pythonic.begin_effect(p_worker, p_task, p_attempt, p_effect);
        end if;
        if v_note <> '' or pythonic.must_ask(v_task, p_effect) then
            return jsonb_build_object('do', 'ask', 'approval', pythonic.ask_about(v_effect, p_attempt, p_effect, v_note));
        end if;
        update public.effects set state = 'started', started_at = clock_timestamp() where id = v_effect.id
            returning * into v_effect;
        return jsonb_build_object('do', 'go', 'idempotency_key', v_effect.idempotency_key);
    end if;

    if v_effect.digest is distinct from p_effect ->> 'digest' then
        return jsonb_build_object('do', 'refused', 'why', 'Another action has this key.');
    end if;
    update public.effects set met_attempt = p_attempt where id = v_effect.id and met_attempt <> p_attempt;
    case
    when v_effect.state = 'succeeded'
        or v_effect.state = 'failed' and (v_rerun or v_effect.step_id = v_step and v_effect.execution = v_execution) then
        return jsonb_build_object('do', 'done', 'state', v_effect.state, 'result', v_effect.result, 'error', v_effect.error);
    when v_effect.state in ('refused', 'skipped') then
        return jsonb_build_object('do', 'refused', 'why', coalesce(v_effect.error, 'A person refused this action.'));
    when v_rerun and v_effect.state = 'unknown' and v_effect.error is not null then
        return jsonb_build_object('do', 'done', 'state', 'failed', 'result', null, 'error', v_effect.error);
    when v_rerun then
        return jsonb_build_object('do', 'refused', 'why',
            'This code runs once more to rebuild what it had made, and the outcome of this action was not recorded.');
    when v_effect.state = 'started' and v_effect.attempt = p_attempt and v_effect.call = p_effect ->> 'call' then
        return jsonb_build_object('do', 'go', 'idempotency_key', v_effect.idempotency_key);
    when v_effect.state = 'proposed' then
        return jsonb_build_object('do', 'ask', 'approval', pythonic.ask_about(v_effect, p_attempt, p_effect, ''));
    when v_effect.state in ('started', 'unknown') and not v_effect.repeatable then
        update public.effects set state = 'unknown', finished_at = coalesce(finished_at, now()) where id = v_effect.id;
        return jsonb_build_object('do', 'unknown', 'effect_key', v_effect.effect_key,
            'idempotency_key', v_effect.idempotency_key);
    else  -- approved; known not to have happened; or the other side tells a repetition by its key
        update public.effects set state = 'started', started_at = clock_timestamp(), finished_at = null, error = null,
            result = null, attempt = p_attempt, execution = v_execution, call = p_effect ->> 'call'
            where id = v_effect.id;
        return jsonb_build_object('do', 'go', 'idempotency_key', v_effect.idempotency_key);
    end case;
end
$$;
comment on function pythonic.begin_effect(uuid, bigint, integer, jsonb) is
    'Writes an action down before it is done, and answers {"do"}: go, done (with the recorded result), unknown, ask, refused or lost.';

create function pythonic.ask_about(p_of public.effects, p_attempt integer, p_effect jsonb, p_note text) returns bigint
language sql security definer set search_path = ''
as $$
    select case when p_effect ->> 'question' is not null then
        pythonic.ask(p_of, p_attempt, 'question', p_effect ->> 'question', p_effect -> 'preview', p_effect -> 'choices', null)
    else
        pythonic.ask(p_of, p_attempt, 'effect',
            format('May the assistant do this? %s%s%s', p_of.name,
                case p_of.risk when 'irreversible' then ' (it cannot be undone).' else '.' end, p_note),
            p_effect -> 'preview',
            '[{"decision": "approve", "label": "Yes, do it"}, {"decision": "refuse", "label": "No"}]',
            case when p_note = '' then p_effect -> 'standing' end)
    end
$$;
comment on function pythonic.ask_about(public.effects, integer, jsonb, text) is 'Asks for the yes to an effect, or the question that it is.';

create function pythonic.ask_outcome(p_worker uuid, p_task bigint, p_attempt integer, p_key text, p_preview jsonb)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
    v_effect public.effects;
begin
    select e.* into v_effect from public.effects e join public.tasks t on t.id = e.task_id and e.asking = t.asked_attempt
        where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker and e.effect_key = p_key
        for share of t for update of e;
    if not found then return '{"do": "lost"}'; end if;
    if v_effect.state <> 'unknown' then return '{"do": "again"}'; end if;  -- settled meanwhile
    return jsonb_build_object('do', 'ask', 'approval', pythonic.ask(v_effect, p_attempt, 'unknown',
        format('%s was begun at %s UTC, and it is not known whether it happened. Look there, then say.',
            v_effect.name, to_char(v_effect.started_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')),
        p_preview,
        '[{"decision": "happened", "label": "It happened: go on"}, {"decision": "again", "label": "It did not: do it now"},
          {"decision": "stop", "label": "Stop the task"}]', null));
end
$$;
comment on function pythonic.ask_outcome(uuid, bigint, integer, text, jsonb) is
    'Asks the person whether an effect of unknown outcome happened.';

create function pythonic.end_effect(
    p_worker uuid, p_task bigint, p_attempt integer, p_key text, p_state text, p_result jsonb, p_error text)
returns boolean
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_task public.tasks;
    v_effect public.effects;
begin
    if p_state not in ('succeeded', 'failed', 'unknown', 'approved') then
        raise exception 'An effect does not end as %.', p_state using errcode = 'invalid_parameter_value';
    end if;
    select * into v_task from public.tasks t
        where t.id = p_task and t.attempt = p_attempt and t.worker_id = p_worker for share;
    if not found then return false; end if;
    select * into v_effect from public.effects e
        where e.task_id = p_task and e.asking = v_task.asked_attempt and e.effect_key = p_key for update;
    if not found then return false; end if;
    -- The same end twice is one end.
    if v_effect.state = p_state and v_effect.state <> 'unknown' then return true; end if;
    -- Only its own attempt ends what has been started; of what is unknown, whoever has looked says how it is.
    if not (v_effect.state = 'started' and v_effect.attempt = p_attempt and p_state <> 'approved'
        or v_effect.state = 'unknown') then
        return false;
    end if;
    update public.effects set state = p_state, result = nullif(p_result, 'null'), error = left(p_error, 10000),
        finished_at = case when p_state <> 'approved' then clock_timestamp() end
        where id = v_effect.id;
    return true;
end
$$;
comment on function pythonic.end_effect(uuid, bigint, integer, text, text, jsonb, text) is
    'Records what came of an effect: succeeded, failed (it did not happen) or unknown; approved once an unknown one is known not to have happened.';

-- ---------------------------------------------------------------------------------------------------------
-- Deciding: for people
-- ---------------------------------------------------------------------------------------------------------

create function pythonic.go_on(p_task bigint) returns void
language plpgsql security definer set search_path = ''
as $$
begin
    if not exists (select 1 from public.approvals a where a.task_id = p_task and a.state = 'pending') then
        perform pythonic.resume_task(p_task);
    end if;
end
$$;
comment on function pythonic.go_on(bigint) is 'Lets a task go on once nothing is left to decide.';

create function pythonic.decide_approval(p_approval bigint, p_decision text, p_answer text, p_always boolean)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
    v_task public.tasks;
    v_approval public.approvals;
    v_state text;
    v_problem text;
begin
    select * into v_approval from public.approvals a
        where a.id = p_approval and a.user_id = auth.uid();
    if not found then
        raise exception 'There is no question % to you.', p_approval using errcode = 'insufficient_privilege';
    end if;
    -- Admission, then the task, then what belongs to it: the order of every function here.
    perform pythonic.lock_admissions(array[v_approval.user_id]);
    select * into v_task from public.tasks t where t.id = v_approval.task_id for update;
    select * into strict v_approval from public.approvals a where a.id = p_approval for update;
    if v_approval.state <> 'pending' then
        raise exception 'This is decided already: %, on % UTC%.',
            case v_approval.state when 'expired' then 'nobody decided in time'
                when 'cancelled' then 'the task ended before' else v_approval.state end,
            to_char(v_approval.decided_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
            coalesce(', by ' || (select coalesce(nullif(p.display_name, ''), u.email, 'you')
                from public.profiles p left join auth.users u on u.id = p.id where p.id = v_approval.decided_by), '')
            using errcode = 'invalid_parameter_value';
    end if;
    v_problem := case
        when v_approval.kind = 'effect' and p_decision not in ('approve', 'refuse') then
            'Decide with approve or refuse.'
        when v_approval.kind = 'unknown' and p_decision not in ('happened', 'again', 'stop') then
            'Say happened, again or stop.'
        when v_approval.kind = 'question' and p_decision <> 'answer' then 'This is a question: decide with answer.'
        when v_approval.kind = 'question' and coalesce(btrim(p_answer), '') = '' then 'The answer is empty: write one.'
        when char_length(p_answer) > 20000 then 'The answer is longer than 20,000 characters.'
        when v_approval.kind = 'question' and jsonb_array_length(v_approval.choices) > 0
            and not v_approval.choices ? p_answer then 'Choose one of the answers that are offered.'
        when p_always and (p_decision <> 'approve' or v_approval.standing is null) then
            'This cannot be allowed for good: it names nobody whom a rule could be limited to.'
    end;
    if p_decision is null or v_problem is not null then
        raise exception '%', coalesce(v_problem, 'Say what you decide.') using errcode = 'invalid_parameter_value';
    end if;

    v_state := case p_decision when 'approve' then 'approved' when 'refuse' then 'refused' else 'answered' end;
    update public.approvals set state = v_state, decided_at = clock_timestamp(), decided_by = auth.uid(),
        answer = case when v_approval.kind = 'unknown' then p_decision else p_answer end
        where id = p_approval;
    if p_decision = 'approve' then
        update public.effects set state = 'approved' where id = v_approval.effect_id and state = 'proposed';
        if p_always then
            insert into public.standing_rules (user_id, tool, recipient, host, method, created_from)
            values (v_approval.user_id, v_approval.standing ->> 'tool', v_approval.standing -> 'recipient',
                v_approval.standing ->> 'host', v_approval.standing ->> 'method', p_approval)
            on conflict do nothing;
        end if;
    elsif p_decision = 'refuse' then
        update public.effects set state = 'refused', finished_at = clock_timestamp(),
            error = 'The person refused this action' || coalesce(': ' || nullif(btrim(p_answer), ''), '')
                || '. Do not try it another way; go on without it, or say in the answer that it was refused.'
            where id = v_approval.effect_id and state = 'proposed';
    elsif p_decision = 'answer' then
        update public.effects set state = 'succeeded', result = to_jsonb(p_answer), finished_at = clock_timestamp()
            where id = v_approval.effect_id and state = 'proposed';
    elsif p_decision = 'happened' then
        update public.effects set state = 'succeeded', finished_at = clock_timestamp(),
            error = 'The answer was lost, but the person has seen that this happened.'
            where id = v_approval.effect_id and state = 'unknown';
    elsif p_decision = 'again' then
        update public.effects set state = 'approved', finished_at = null, error = null
            where id = v_approval.effect_id and state = 'unknown';
    else
        update public.effects set state = 'skipped', finished_at = clock_timestamp(),
            error = 'The person stopped the task, because it was not known whether this happened.'
            where id = v_approval.effect_id and state = 'unknown';
        perform pythonic.cancel_task(v_approval.task_id);
    end if;
    perform pythonic.tell('user:' || v_approval.user_id::text, 'approvals',
        jsonb_build_object('task_id', v_approval.task_id, 'approval_id', p_approval, 'state', v_state));
    perform pythonic.go_on(v_approval.task_id);
    return jsonb_build_object('approval', p_approval, 'state', v_state, 'task_id', v_approval.task_id,
        'task_state', (select t.state from public.tasks t where t.id = v_approval.task_id));
end
$$;
comment on function pythonic.decide_approval(bigint, text, text, boolean) is
    'A person''s decision: approve or refuse; happened, again or stop; answer. The first one counts; the task goes on.';

create function pythonic.expire_approvals() returns integer
language plpgsql security definer set search_path = '' set jit = off
as $$
declare
    v_row record;
    v_count integer := 0;
begin
    for v_row in
        select a.id, a.task_id, a.effect_id, a.user_id from public.approvals a
        where a.state = 'pending' and a.expires_at <= now() order by a.expires_at limit 100
    loop
        -- Like all upkeep, it waits for nobody: whoever holds one of these is looked at again the next time.
        continue when not pythonic.try_admission(v_row.user_id);
        perform 1 from public.tasks t where t.id = v_row.task_id for update skip locked;
        continue when not found;
        update public.approvals set state = 'expired', decided_at = clock_timestamp()
            where id = v_row.id and state = 'pending';
        continue when not found;
        update public.effects set
            state = case state when 'unknown' then 'skipped' else 'refused' end, finished_at = clock_timestamp(),
            error = 'Nobody decided about this in time, so it was not done'
                || case state when 'unknown' then ' again; it is not known whether it happened before.' else '.' end
            where id = v_row.effect_id and state in ('proposed', 'unknown');
        perform pythonic.tell('user:' || v_row.user_id::text, 'approvals',
            jsonb_build_object('task_id', v_row.task_id, 'approval_id', v_row.id, 'state', 'expired'));
        perform pythonic.go_on(v_row.task_id);
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;
comment on function pythonic.expire_approvals() is
    'Ends what nobody decided in time, and lets those tasks go on with that answer. Returns how many.';

create function pythonic.effects_follow_task() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    update public.approvals set state = 'cancelled', decided_at = clock_timestamp()
        where task_id = new.id and state = 'pending';
    update public.effects set state = case when state in ('proposed', 'approved') then 'skipped' else 'unknown' end,
        finished_at = coalesce(finished_at, clock_timestamp())
        where task_id = new.id and state in ('proposed', 'approved', 'started');
    return null;
end
$$;
comment on function pythonic.effects_follow_task() is
    'When a task ends, nothing is left to decide, and what had been begun without an end is of unknown outcome.';
create trigger effects_follow_task after update of state on public.tasks
    for each row when (old.state is distinct from new.state
        and new.state in ('succeeded', 'failed', 'cancelled'))
    execute function pythonic.effects_follow_task();

create function pythonic.effects_of_retry() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    delete from public.task_items i where i.task_id = new.id;
    -- From the start, the person wants it done again. After the last finished step, what was done is done; what
    -- was refused may be asked again.
    if exists (select 1 from public.task_steps s where s.task_id = new.id) then
        update public.effects set asking = new.asked_attempt,
            state = case when state not in ('refused', 'skipped') then state
                when started_at is null then 'proposed' else 'unknown' end
            where task_id = new.id and asking = old.asked_attempt;
    elsif old.asked_attempt = new.asked_attempt then
        -- They count no more, as those that an earlier attempt number tells apart.
        update public.effects set asking = -1 - asking where task_id = new.id and asking = new.asked_attempt;
    end if;
    return null;
end
$$;
comment on function pythonic.effects_of_retry() is 'What a person''s wish to try again means for the conversation and the ledger.';
-- A task that was cancelled before it was claimed is asked again at the same attempt.
create trigger effects_of_retry after update of state, asked_attempt on public.tasks
    for each row when (old.asked_attempt is distinct from new.asked_attempt
        or old.state in ('succeeded', 'failed', 'cancelled') and new.state in ('queued', 'held'))
    execute function pythonic.effects_of_retry();

-- ---------------------------------------------------------------------------------------------------------
-- Asking is a tool that every assistant has
-- ---------------------------------------------------------------------------------------------------------

create or replace function pythonic.usual_tools() returns text[]
    language sql immutable set search_path = '' as $$ select '{earlier_tasks,thread_files,ask_person}'::text[] $$;
update public.assistants set tools = pythonic.usual_tools() where tools = '{earlier_tasks,thread_files}';

-- ---------------------------------------------------------------------------------------------------------
-- Thin wrappers in public, and who may call them
-- ---------------------------------------------------------------------------------------------------------

create function public.begin_effect(worker uuid, task_id bigint, attempt integer, effect jsonb) returns jsonb
    language sql security invoker set search_path = ''
    as $$ select pythonic.begin_effect(worker, task_id, attempt, effect) $$;
comment on function public.begin_effect(uuid, bigint, integer, jsonb) is 'For workers: writes an action down before it is done.';
create function public.ask_outcome(worker uuid, task_id bigint, attempt integer, effect_key text, preview jsonb default '{}')
    returns jsonb language sql security invoker set search_path = ''
    as $$ select pythonic.ask_outcome(worker, task_id, attempt, effect_key, preview) $$;
comment on function public.ask_outcome(uuid, bigint, integer, text, jsonb) is 'For workers: asks whether an effect of unknown outcome happened.';
create function public.end_effect(
    worker uuid, task_id bigint, attempt integer, effect_key text, state text, result jsonb default null, error text default null)
    returns boolean language sql security invoker set search_path = ''
    as $$ select pythonic.end_effect(worker, task_id, attempt, effect_key, state, result, error) $$;
comment on function public.end_effect(uuid, bigint, integer, text, text, jsonb, text) is 'For workers: records what came of an effect.';
create function public.expire_approvals() returns integer
    language sql security invoker set search_path = '' as $$ select pythonic.expire_approvals() $$;
comment on function public.expire_approvals() is 'For workers: ends what nobody decided in time.';
create function public.decide_approval(
    approval bigint, decision text, answer text default null, always boolean default false) returns jsonb
    language sql security invoker set search_path = ''
    as $$ select pythonic.decide_approval(approval, decision, answer, always) $$;
comment on function public.decide_approval(bigint, text, text, boolean) is
    'A person''s decision about what a task waits for: approve or refuse (always: and make a standing rule of it); happened, again or stop; answer.';

revoke all on function pythonic.must_ask, pythonic.ask, pythonic.begin_effect, pythonic.ask_about, pythonic.ask_outcome,
    pythonic.end_effect, pythonic.go_on, pythonic.decide_approval, pythonic.expire_approvals,
    pythonic.effects_follow_task, pythonic.effects_of_retry from public;
revoke all on function public.begin_effect, public.ask_outcome, public.end_effect, public.expire_approvals,
    public.decide_approval from public, anon, authenticated;
grant execute on function public.begin_effect, pythonic.begin_effect, public.ask_outcome, pythonic.ask_outcome,
    public.end_effect, pythonic.end_effect, public.expire_approvals, pythonic.expire_approvals to service_role;
grant execute on function public.decide_approval, pythonic.decide_approval to authenticated;
