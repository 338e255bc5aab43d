-- Tables of Pythonic Assistant. Every table and column is commented, because people review them in the
-- dashboard. The same files run on hosted Supabase and on the embedded one.

create schema if not exists pythonic;
comment on schema pythonic is 'Private functions of Pythonic Assistant. Callers use the thin wrappers in public.';

create table public.profiles (
    id uuid primary key references auth.users (id) on delete cascade,
    display_name text not null default '' check (char_length(display_name) <= 200),
    active_limit integer not null default 5 check (active_limit between 1 and 1000),
    created_at timestamptz not null default now()
);
comment on table public.profiles is 'One row for each person who may sign in.';
comment on column public.profiles.id is 'The person''s id in auth.users.';
comment on column public.profiles.display_name is 'How the page calls the person.';
comment on column public.profiles.active_limit is 'How many tasks of this person may be queued or running at once; further ones are held.';
comment on column public.profiles.created_at is 'When the person signed up.';

create table public.assistants (
    id uuid primary key default gen_random_uuid(),
    user_id uuid default auth.uid() references public.profiles (id) on delete cascade,
    name text not null check (char_length(name) between 1 and 200),
    description text not null default '' check (char_length(description) <= 2000),
    instructions text not null default '' check (char_length(instructions) <= 256000),
    model text check (char_length(model) between 1 and 200),
    ice_breakers jsonb not null default '[]' check (jsonb_typeof(ice_breakers) = 'array'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table public.assistants is 'Saved configurations of the assistant. Rows without an owner are built in and seen by all.';
comment on column public.assistants.id is 'Identifier.';
comment on column public.assistants.user_id is 'The owner; null for a built-in assistant.';
comment on column public.assistants.name is 'Shown where an assistant is chosen.';
comment on column public.assistants.description is 'One or two sentences on what it is for.';
comment on column public.assistants.instructions is 'What the model is told before every task.';
comment on column public.assistants.model is 'The model to use; null means the one that the worker is configured with.';
comment on column public.assistants.ice_breakers is 'Prompts offered in an empty thread: an array of {"title", "prompt", "files": [names below examples/]}.';
comment on column public.assistants.created_at is 'When it was made.';
comment on column public.assistants.updated_at is 'When it was last changed.';

create table public.threads (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null default auth.uid() references public.profiles (id) on delete cascade,
    assistant_id uuid references public.assistants (id) on delete set null,
    title text not null default 'New thread' check (char_length(title) between 1 and 200),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index threads_of_user on public.threads (user_id, updated_at desc);
comment on table public.threads is 'Conversations.';
comment on column public.threads.id is 'Identifier.';
comment on column public.threads.user_id is 'The person whose thread it is.';
comment on column public.threads.assistant_id is 'The assistant that answers here; null means the default one.';
comment on column public.threads.title is 'Shown in the list of threads; made from the first prompt.';
comment on column public.threads.created_at is 'When it was begun.';
comment on column public.threads.updated_at is 'When its newest message or task came.';

create table public.tasks (
    -- What a reviewer looks for comes first.
    id bigint generated always as identity primary key,
    state text not null default 'queued' check (state in
        ('scheduled', 'held', 'queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    verdict text check (verdict in ('proven', 'unverified', 'refuted')),
    prompt text not null check (char_length(prompt) between 1 and 20000),
    answer text,
    error text,
    evidence jsonb not null default '[]' check (jsonb_typeof(evidence) = 'array'),
    usage jsonb not null default '{}' check (jsonb_typeof(usage) = 'object'),
    model_used text,
    sandbox_tier text,

    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,

    kind text not null default 'task' check (kind in ('task', 'probe')),
    inputs jsonb not null default '[]' check (jsonb_typeof(inputs) = 'array' and jsonb_array_length(inputs) <= 50),
    model text check (char_length(model) between 1 and 200),
    user_id uuid not null default auth.uid() references public.profiles (id) on delete cascade,
    thread_id uuid references public.threads (id) on delete cascade,
    assistant_id uuid references public.assistants (id) on delete set null,

    queue text not null default 'default' check (char_length(queue) between 1 and 100),
    priority smallint not null default 0 check (priority between -100 and 100),
    run_at timestamptz not null default now(),
    dedupe_key text check (char_length(dedupe_key) between 1 and 200),
    attempt integer not null default 0 check (attempt >= 0),
    failures integer not null default 0 check (failures >= 0),
    max_failures integer not null default 3 check (max_failures between 1 and 100),
    worker_id uuid,
    lease_until timestamptz,
    cancel_requested_at timestamptz,

    constraint running_has_a_lease check
        ((state = 'running') = (worker_id is not null and lease_until is not null)),
    constraint final_has_a_time check
        ((state in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null)),
    constraint succeeded_has_an_answer check
        (state <> 'succeeded' or (answer is not null and verdict in ('proven', 'unverified'))),
    constraint proven_has_evidence check
        (verdict is distinct from 'proven' or jsonb_array_length(evidence) > 0),
    constraint failed_has_an_error check (state <> 'failed' or error is not null)
) with (fillfactor = 80);
-- No index contains lease_until or a heartbeat, so that renewing a lease stays a heap-only update.
create index tasks_claim on public.tasks (queue, priority desc, id) where state = 'queued';
create index tasks_due on public.tasks (queue, run_at) where state = 'scheduled';
create index tasks_of_worker on public.tasks (worker_id, id) where state = 'running';
create index tasks_active_of_user on public.tasks (user_id) where state in ('queued', 'running');
create index tasks_held_of_user on public.tasks (user_id, priority desc, id) where state = 'held';
create index tasks_of_user on public.tasks (user_id, id desc);
create index tasks_of_thread on public.tasks (thread_id, id);
create unique index tasks_dedupe on public.tasks (user_id, dedupe_key)
    where state in ('scheduled', 'held', 'queued', 'running', 'waiting');
comment on table public.tasks is 'What people asked for, one row each, and the queue itself. Insert a row with a prompt and it runs.';
comment on column public.tasks.id is 'Identifier; also the order of tasks with equal priority.';
comment on column public.tasks.user_id is 'Whose task it is. Left empty in the dashboard, it is the only person there is.';
comment on column public.tasks.thread_id is 'The conversation; made from the prompt when left empty.';
comment on column public.tasks.assistant_id is 'The assistant that works on it; null means the default one.';
comment on column public.tasks.kind is 'task, or probe: a test of the connection to the model.';
comment on column public.tasks.prompt is 'The wish in natural language.';
comment on column public.tasks.inputs is 'Files of the person in Storage: an array of {"name", "storage_path", "media_type", "bytes"}.';
comment on column public.tasks.model is 'The model wanted; null means that of the assistant, or else of the worker.';
comment on column public.tasks.state is 'scheduled, held, queued, running, waiting, succeeded, failed or cancelled.';
comment on column public.tasks.queue is 'Which workers take it.';
comment on column public.tasks.priority is 'Higher is sooner; people may use -10 to 10.';
comment on column public.tasks.run_at is 'Not before this time.';
comment on column public.tasks.dedupe_key is 'At most one live task of a person has this key: a double click makes one task.';
comment on column public.tasks.attempt is 'How often it was claimed; the fencing token of every write about it.';
comment on column public.tasks.failures is 'How many attempts failed or were lost; never counts a clean release.';
comment on column public.tasks.max_failures is 'At this many failures the task has failed.';
comment on column public.tasks.worker_id is 'The worker that holds it.';
comment on column public.tasks.lease_until is 'When the worker''s hold ends unless it is renewed.';
comment on column public.tasks.cancel_requested_at is 'When somebody asked to cancel it while it ran.';
comment on column public.tasks.answer is 'The answer, in Markdown.';
comment on column public.tasks.verdict is 'proven by executed checks, unverified, or refuted by one.';
comment on column public.tasks.evidence is 'The executed checks: an array of {"check", "outcome", "detail", "code"}.';
comment on column public.tasks.error is 'Why it failed and what to do.';
comment on column public.tasks.usage is 'What it cost: {"turns", "input_tokens", "output_tokens", "cost"}.';
comment on column public.tasks.model_used is 'The model that answered.';
comment on column public.tasks.sandbox_tier is 'What isolated its code.';
comment on column public.tasks.created_at is 'When it was asked.';
comment on column public.tasks.started_at is 'When it was first claimed.';
comment on column public.tasks.finished_at is 'When it reached its final state.';

create table public.messages (
    id bigint generated always as identity primary key,
    thread_id uuid not null references public.threads (id) on delete cascade,
    user_id uuid not null default auth.uid() references public.profiles (id) on delete cascade,
    task_id bigint references public.tasks (id) on delete cascade,
    role text not null check (role in ('user', 'assistant')),
    content text not null check (char_length(content) <= 1000000),
    created_at timestamptz not null default now()
);
create index messages_of_thread on public.messages (thread_id, id);
comment on table public.messages is 'The words of a thread. Written by the queue: a task''s prompt when it comes, its answer when it ends.';
comment on column public.messages.id is 'Identifier, in order.';
comment on column public.messages.thread_id is 'The thread.';
comment on column public.messages.user_id is 'The person whose thread it is.';
comment on column public.messages.task_id is 'The task that this message asked for or answered.';
comment on column public.messages.role is 'user or assistant.';
comment on column public.messages.content is 'Markdown.';
comment on column public.messages.created_at is 'When it was written.';

create table public.task_steps (
    task_id bigint not null references public.tasks (id) on delete cascade,
    step_id text not null check (char_length(step_id) between 1 and 100),
    position integer not null check (position >= 0),
    state text not null default 'pending' check (state in ('pending', 'running', 'succeeded', 'failed')),
    title text not null,
    goal text not null,
    proof text not null default '',
    depends_on text[] not null default '{}',
    attempt integer not null,
    executions integer not null default 0 check (executions >= 0),
    code text,
    output text,
    error text,
    started_at timestamptz,
    finished_at timestamptz,
    user_id uuid not null references public.profiles (id) on delete cascade,
    primary key (task_id, step_id)
);
comment on table public.task_steps is 'The plan of a task. A new attempt goes on after the steps that have succeeded.';
comment on column public.task_steps.task_id is 'The task.';
comment on column public.task_steps.step_id is 'The step''s name within its plan.';
comment on column public.task_steps.user_id is 'The person whose task it is.';
comment on column public.task_steps.position is 'Place in the plan, from 0.';
comment on column public.task_steps.title is 'A few words.';
comment on column public.task_steps.goal is 'What its code has to reach.';
comment on column public.task_steps.proof is 'What would show that it was reached.';
comment on column public.task_steps.depends_on is 'Steps whose results it uses.';
comment on column public.task_steps.state is 'pending, running, succeeded or failed.';
comment on column public.task_steps.attempt is 'The attempt that last worked on it.';
comment on column public.task_steps.executions is 'How often its code was run in that attempt; above 1 there were fixes.';
comment on column public.task_steps.code is 'The code that succeeded; it is run again to rebuild the variables after a crash.';
comment on column public.task_steps.output is 'What that code printed, shortened.';
comment on column public.task_steps.error is 'Why the step failed.';
comment on column public.task_steps.started_at is 'When work on it began.';
comment on column public.task_steps.finished_at is 'When it ended.';

create table public.task_events (
    task_id bigint not null references public.tasks (id) on delete cascade,
    attempt integer not null,
    seq integer not null check (seq > 0),
    kind text not null,
    step_id text,
    data jsonb not null default '{}',
    created_at timestamptz not null default now(),
    user_id uuid not null references public.profiles (id) on delete cascade,
    primary key (task_id, attempt, seq)
);
comment on table public.task_events is 'The history of a task in order. Follow it per task: by attempt, then seq.';
comment on column public.task_events.task_id is 'The task.';
comment on column public.task_events.attempt is 'The attempt that it belongs to.';
comment on column public.task_events.seq is 'Counts from 1 within the attempt, without gaps.';
comment on column public.task_events.user_id is 'The person whose task it is.';
comment on column public.task_events.kind is 'What happened, such as plan_made, code_written, code_executed, check_executed.';
comment on column public.task_events.step_id is 'The step that it is about, if any.';
comment on column public.task_events.data is 'The fact itself; its fields depend on kind.';
comment on column public.task_events.created_at is 'When it happened on the worker.';

create table public.artifacts (
    id bigint generated always as identity primary key,
    task_id bigint not null references public.tasks (id) on delete cascade,
    user_id uuid not null references public.profiles (id) on delete cascade,
    attempt integer not null,
    name text not null check (char_length(name) between 1 and 500),
    storage_path text not null check (char_length(storage_path) between 1 and 1000),
    media_type text not null,
    bytes bigint not null check (bytes >= 0),
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    created_at timestamptz not null default now(),
    unique (task_id, name)
);
comment on table public.artifacts is 'Files that tasks left. Their content is in the private bucket artifacts.';
comment on column public.artifacts.id is 'Identifier.';
comment on column public.artifacts.task_id is 'The task that left it.';
comment on column public.artifacts.user_id is 'The person whose task it is.';
comment on column public.artifacts.attempt is 'The attempt that left it.';
comment on column public.artifacts.name is 'Its path below the scratch folder of the task.';
comment on column public.artifacts.storage_path is 'Its path in the bucket artifacts; begins with the person''s id.';
comment on column public.artifacts.media_type is 'Such as image/png.';
comment on column public.artifacts.bytes is 'Size.';
comment on column public.artifacts.sha256 is 'Digest of the content, in hex.';
comment on column public.artifacts.created_at is 'When it was stored.';
