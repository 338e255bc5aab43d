-- Who removes a thread or an assistant takes the locks of the queue in its order: first the person's admission, then
-- rows. A row that is removed is locked before its triggers run, so the admission has to come before the statement;
-- else the end of a task of the thread, which holds the task and wants the thread, would wait for the removal, which
-- holds the thread and wants the task, and the database would refuse one of the two.

create function pythonic.admission_comes_first() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    if auth.uid() is not null then
        perform pythonic.lock_admissions(array[auth.uid()]);
    end if;
    return null;
end
$$;
comment on function pythonic.admission_comes_first() is
    'Trigger: a person''s removal waits until the queue is through with what it does for this person just now.';
create trigger admission_comes_first before delete on public.threads
    for each statement execute function pythonic.admission_comes_first();
create trigger admission_comes_first before delete on public.assistants
    for each statement execute function pythonic.admission_comes_first();
create trigger admission_comes_first before delete on public.tasks
    for each statement execute function pythonic.admission_comes_first();
revoke all on function pythonic.admission_comes_first from public;
