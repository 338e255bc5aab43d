-- How the queue and its workers are doing: for operators, for the page, for alerts.

-- Three of the signs of life that a worker gives at most 30 s apart.
create function pythonic.is_online(p_seen_at timestamptz, p_stopped_at timestamptz) returns boolean
    language sql stable set search_path = ''
    as $$ select p_stopped_at is null and p_seen_at > now() - interval '90 seconds' $$;
comment on function pythonic.is_online(timestamptz, timestamptz) is 'Whether a worker seen then, and not stopped, is taken for alive.';

create view public.worker_health with (security_invoker = true) as
select w.*, pythonic.is_online(w.seen_at, w.stopped_at) as online,
    round(extract(epoch from now() - w.seen_at)) as seen_seconds_ago,
    (select count(*) from public.tasks t where t.worker_id = w.id and t.state = 'running') as tasks_running
from public.workers w
order by online desc, w.host, w.started_at;
comment on view public.worker_health is 'Workers, those that are alive first. tasks_running counts the tasks that the reader may see.';

create view public.dead_letters with (security_invoker = true) as
select t.id, p.display_name as person, t.user_id, t.queue, t.kind, left(t.prompt, 120) as prompt, left(t.error, 500) as error,
    t.verdict, t.failures, t.max_failures, t.attempt, t.model_used, t.labels, t.usage, t.created_at, t.finished_at
from public.tasks t
left join public.profiles p on p.id = t.user_id
where t.state = 'failed'
order by t.finished_at desc;
comment on view public.dead_letters is 'Tasks that failed for good, the last first. retry_task(id) asks for one again.';

create function pythonic.why_not_started(
    p_state text, p_labels text[], p_held_because text, p_waiting_for text, p_run_at timestamptz, p_failures integer)
returns text
language plpgsql stable security definer set search_path = ''
as $$
declare
    v_slots bigint;
    v_running bigint;
begin
    case p_state
    when 'held' then return p_held_because;
    when 'waiting' then return 'Waits for ' || p_waiting_for;
    when 'scheduled' then
        return case when p_failures > 0 then 'Is tried again at ' else 'Starts at ' end
            || to_char(p_run_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC.';
    when 'queued' then
        select coalesce(sum(w.slots), 0), coalesce(sum(w.running), 0) into v_slots, v_running from public.workers w
            where p_labels <@ w.labels and pythonic.is_online(w.seen_at, w.stopped_at);
        if v_slots > 0 and v_running < v_slots then return 'Starts in a moment.'; end if;
        if v_slots > 0 then return 'Every worker that can take it is busy; it starts when one is free.'; end if;
        if p_labels = '{}' or not exists (
            select 1 from public.workers w where pythonic.is_online(w.seen_at, w.stopped_at)) then
            return 'No worker is online; it starts when one comes.';
        end if;
        return format('Needs a worker with the %s %s; none is online.',
            case when cardinality(p_labels) = 1 then 'label' else 'labels' end, array_to_string(p_labels, ', '));
    else return null;
    end case;
end
$$;
comment on function pythonic.why_not_started(text, text[], text, text, timestamptz, integer) is
    'In a sentence, why a task in this state does not run; null when it runs or has ended.';

create view public.task_waits with (security_invoker = true) as
select t.id, t.user_id, t.thread_id, t.queue, t.state, t.labels, left(t.prompt, 120) as prompt, t.created_at,
    round(extract(epoch from now() - t.created_at)) as seconds,
    t.state = 'queued' and not exists (
        select 1 from public.workers w
        where t.labels <@ w.labels and w.slots > 0 and pythonic.is_online(w.seen_at, w.stopped_at)) as unroutable,
    pythonic.why_not_started(t.state, t.labels, t.held_because, t.waiting_for, t.run_at, t.failures) as why
from public.tasks t
where t.state in ('scheduled', 'held', 'queued', 'waiting');
comment on view public.task_waits is 'Tasks that do not run yet, and why. unroutable: no worker that is online may take it.';

-- What is usual: the last thousand that ended well, of each kind, if they are enough to tell.
create view public.usual_seconds with (security_invoker = true) as
select n.kind, count(*) as tasks,
    percentile_cont(0.5) within group (order by n.seconds) as p50, percentile_cont(0.95) within group (order by n.seconds) as p95
from (
    select t.kind, extract(epoch from t.finished_at - t.started_at) as seconds
    from public.tasks t where t.state = 'succeeded' and t.started_at is not null
    order by t.id desc limit 1000) n
group by n.kind
having count(*) >= 20;
comment on view public.usual_seconds is 'How long tasks of a kind take from their first start to a good end, of the last thousand; nothing for a kind with less than twenty.';

create view public.running_tasks with (security_invoker = true) as
select t.id, t.user_id, t.queue, t.kind, left(t.prompt, 120) as prompt, t.attempt, t.worker_id, w.host as worker, r.began,
    round(extract(epoch from now() - r.began)) as seconds, round(extract(epoch from now() - r.last)) as quiet_seconds,
    t.lease_until < now() as lost,
    r.last < now() - interval '10 minutes' as stuck,
    extract(epoch from now() - r.began) > 3 * s.p95 as slow
from public.tasks t
left join public.workers w on w.id = t.worker_id
left join public.usual_seconds s on s.kind = t.kind
cross join lateral (
    -- Events of this attempt; before its first one the task was only just claimed, or its worker says nothing.
    select coalesce(min(e.created_at), t.started_at) as began, coalesce(max(e.created_at), t.started_at) as last
    from public.task_events e where e.task_id = t.id and e.attempt = t.attempt) r
where t.state = 'running';
comment on view public.running_tasks is 'Tasks at work. stuck: nothing has happened for ten minutes; slow: longer than three times the p95 of its kind; lost: the lease has ended.';

drop view public.queue_health;
create view public.queue_health with (security_invoker = true) as
with counted as (
    select t.queue,
        count(*) filter (where t.state = 'queued') as queued,
        count(*) filter (where t.state = 'held') as held,
        count(*) filter (where t.state = 'scheduled') as scheduled,
        count(*) filter (where t.state = 'running') as running,
        count(*) filter (where t.state = 'waiting') as waiting,
        count(*) filter (where t.state = 'failed') as dead_letters,
        extract(epoch from now() - min(t.created_at) filter (where t.state = 'queued')) as oldest_queued_seconds,
        count(*) filter (where t.state = 'failed' and t.finished_at > now() - interval '1 hour') as failed_last_hour,
        count(*) filter (where t.state = 'succeeded' and t.finished_at > now() - interval '1 hour') as succeeded_last_hour
    from public.tasks t group by t.queue
), at_work as (
    select r.queue, count(*) filter (where r.lost) as lost, count(*) filter (where r.stuck) as stuck,
        count(*) filter (where r.slow) as slow
    from public.running_tasks r group by r.queue
), sets as (
    -- Once for each set of labels, not for each task.
    select t.queue, t.labels, count(*) as tasks from public.tasks t where t.state = 'queued' group by t.queue, t.labels
), unlabelled as (
    select s.queue, sum(s.tasks) as tasks from sets s
    where not exists (select 1 from public.workers w
        where s.labels <@ w.labels and w.slots > 0 and pythonic.is_online(w.seen_at, w.stopped_at))
    group by s.queue
), reasons as (
    select h.queue, jsonb_object_agg(h.held_because, h.tasks) as reasons
    from (select t.queue, t.held_because, count(*) as tasks from public.tasks t
          where t.state = 'held' group by t.queue, t.held_because) h
    group by h.queue
)
select c.queue, c.queued, c.held, c.scheduled, c.running, c.waiting, coalesce(a.lost, 0) as lost,
    c.oldest_queued_seconds, c.failed_last_hour, c.succeeded_last_hour,
    coalesce(a.stuck, 0) as stuck, coalesce(a.slow, 0) as slow, coalesce(u.tasks, 0)::bigint as unroutable, c.dead_letters,
    coalesce(r.reasons, '{}') as held_reasons,
    (select count(*) from public.workers w where pythonic.is_online(w.seen_at, w.stopped_at)) as workers_online
from counted c
left join at_work a on a.queue = c.queue
left join unlabelled u on u.queue = c.queue
left join reasons r on r.queue = c.queue;
comment on view public.queue_health is 'How each queue is doing: what waits, what runs, what is lost, stuck, slow or without a worker for its labels, and why tasks are held.';

revoke all on public.worker_health, public.dead_letters, public.task_waits, public.usual_seconds, public.running_tasks,
    public.queue_health from anon, authenticated, service_role;
grant select on public.worker_health, public.dead_letters, public.task_waits, public.usual_seconds, public.running_tasks,
    public.queue_health to authenticated, service_role;
revoke all on function pythonic.is_online, pythonic.why_not_started from public;
grant execute on function pythonic.is_online, pythonic.why_not_started to authenticated, service_role;
