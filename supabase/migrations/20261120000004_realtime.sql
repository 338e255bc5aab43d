-- Who may listen on which private topic. Nobody but the service role may send.
--   user:<id>   what happens to a person's tasks          that person
--   task:<id>   reserved for one task's watchers          the person whose task it is
--   workers     Presence of the workers that are online   everyone who is signed in
--   queue       hints for workers                         workers only (the service role)

create function pythonic.may_listen(p_topic text, p_extension text) returns boolean
language sql stable security definer set search_path = ''
as $$
    select case
        when auth.uid() is null then false
        when p_topic = 'user:' || auth.uid()::text then true
        when p_topic = 'workers' then p_extension = 'presence'
        when p_topic ~ '^task:[0-9]{1,18}$' then exists (
            select 1 from public.tasks t
            where t.id = substr(p_topic, 6)::bigint and t.user_id = auth.uid())
        else false
    end
$$;
comment on function pythonic.may_listen(text, text) is 'Whether the caller may receive from a private Realtime topic.';
revoke all on function pythonic.may_listen(text, text) from public;
grant execute on function pythonic.may_listen(text, text) to authenticated;

create policy "people listen to their own topics" on realtime.messages
    for select to authenticated
    using ((select pythonic.may_listen((select realtime.topic()), realtime.messages.extension)));
