"""The HTTP front of the embedded Supabase: access, reverse proxy, answers put right."""
