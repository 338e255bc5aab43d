"""Queue, journal and files in Supabase, through its official client."""
