"""Puts the page together: Streamlit, our routes, the guard, and what lives as long as the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import streamlit as st
from starlette.middleware import Middleware

from live.accounts import Accounts
from live.guard import Guard, loopback_hosts
from live.hub import Hub
from live.routes import page_routes
from live.runtime import ROOT, LocalUser, PageRuntime, set_runtime
from live.sessions import SessionBook
from live.supabase_access import SupabaseAccess
from live.vault import Vault
from pythonic_assistant.domain.errors import ConfigurationError
from pythonic_assistant.settings import Settings

_HTTP_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)
_HTTP_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


def make_app(settings: Settings) -> st.App:
    """Make the ASGI application.

    Raises:
        ConfigurationError: the address or the publishable key of Supabase is missing.
    """
    url, key = settings.supabase_url, settings.supabase_publishable_key
    if url is None or key is None:
        raise ConfigurationError(
            "SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY are not set: start with `make run`, or set both."
        )
    local_user = (
        LocalUser(email=settings.email, password=settings.password)
        if settings.email is not None and settings.password is not None
        else None
    )

    @asynccontextmanager
    async def lifespan(_app: st.App) -> AsyncGenerator[dict[str, Any], None]:
        async with httpx.AsyncClient(
            limits=_HTTP_LIMITS,
            timeout=_HTTP_TIMEOUT,
            # A proxy of the environment is for hosts outside; the embedded Supabase is on this one.
            trust_env=urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"),
        ) as http:
            access = SupabaseAccess(url=url, publishable_key=key.reveal(), http=http)
            accounts = Accounts(access)
            book = SessionBook(accounts, Vault(settings.home / "page"))
            await book.restore()
            hub = Hub(access, book)
            ready = asyncio.Event()
            running = asyncio.create_task(hub.run(ready))
            await asyncio.wait_for(ready.wait(), 5.0)
            set_runtime(
                PageRuntime(
                    loop=asyncio.get_running_loop(),
                    accounts=accounts,
                    book=book,
                    hub=hub,
                    local_user=local_user,
                    port=settings.page_port,
                )
            )
            try:
                yield {}
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await book.save()
                set_runtime(None)

    return st.App(
        ROOT / "interface.py",
        lifespan=lifespan,
        routes=page_routes(),
        middleware=[Middleware(Guard, hosts=loopback_hosts(settings.page_port))],
    )
