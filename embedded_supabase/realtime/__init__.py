"""Supabase Realtime for the embedded Supabase: Broadcast, Presence, private channels."""
