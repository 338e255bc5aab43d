-- Views for people who look into the dashboard. They run with the reader's own rights.

create view public.task_overview with (security_invoker = true) as
select
    t.id, p.display_name as person, t.state, t.verdict, left(t.prompt, 120) as prompt,
    (select count(*) from public.task_steps s where s.task_id = t.id and s.state = 'succeeded') as steps_done,
    (select count(*) from public.task_steps s where s.task_id = t.id) as steps,
    jsonb_array_length(t.evidence) as checks,
    (select count(*) from public.artifacts a where a.task_id = t.id) as artifacts,
    t.attempt, t.failures, t.model_used, t.sandbox_tier, t.usage, left(t.error, 200) as error,
    t.created_at, extract(epoch from coalesce(t.finished_at, now()) - t.started_at) as seconds
from public.tasks t
left join public.profiles p on p.id = t.user_id
order by t.id desc;
comment on view public.task_overview is 'One line for each task, newest first.';

create view public.queue_health with (security_invoker = true) as
select
    t.queue,
    count(*) filter (where t.state = 'queued') as queued,
    count(*) filter (where t.state = 'held') as held,
    count(*) filter (where t.state = 'scheduled') as scheduled,
    count(*) filter (where t.state = 'running') as running,
    count(*) filter (where t.state = 'waiting') as waiting,
    count(*) filter (where t.state = 'running' and t.lease_until < now()) as lost,
    extract(epoch from now() - min(t.created_at) filter (where t.state = 'queued')) as oldest_queued_seconds,
    count(*) filter (where t.state = 'failed' and t.finished_at > now() - interval '1 hour') as failed_last_hour,
    count(*) filter (where t.state = 'succeeded' and t.finished_at > now() - interval '1 hour') as succeeded_last_hour
from public.tasks t
group by t.queue;
comment on view public.queue_health is 'How each queue is doing: what waits, what runs, what was lost.';

revoke all on public.task_overview, public.queue_health from anon, authenticated;
grant select on public.task_overview, public.queue_health to authenticated, service_role;
