-- One private bucket. Every path begins with the person's id:
--   <user id>/uploads/<random>/<name>     what a person gave
--   <user id>/tasks/<task id>/<name>      what a task left, written by workers

insert into storage.buckets (id, name, public) values ('artifacts', 'artifacts', false)
    on conflict (id) do nothing;

create policy "people read their own files" on storage.objects
    for select to authenticated
    using (bucket_id = 'artifacts' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "people upload below their own folder" on storage.objects
    for insert to authenticated
    with check (bucket_id = 'artifacts' and (storage.foldername(name))[1] = (select auth.uid())::text
        and (storage.foldername(name))[2] = 'uploads');
create policy "people delete their own files" on storage.objects
    for delete to authenticated
    using (bucket_id = 'artifacts' and (storage.foldername(name))[1] = (select auth.uid())::text);
