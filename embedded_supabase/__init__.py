"""A Supabase that needs nothing but Python: PostgreSQL, REST, Auth, Storage, Realtime and Studio on loopback.

async with EmbeddedSupabase(state=Path(".pythonic")) as supabase:
    client = await acreate_client(supabase.url, supabase.publishable_key)
"""

from embedded_supabase.control import studio_link
from embedded_supabase.keys import LocalUser
from embedded_supabase.server import EmbeddedSupabase

__all__ = ["EmbeddedSupabase", "LocalUser", "studio_link"]
