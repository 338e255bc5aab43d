"""Queue, journal and files in Supabase: through its official client, the queue on PostgreSQL itself too."""
