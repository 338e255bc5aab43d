"""Queue and files in Supabase."""
