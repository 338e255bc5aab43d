"""Connections of asyncpg, which has no types of its own."""

from __future__ import annotations

from importlib import import_module
from typing import Any


async def connect(url: str) -> Any:
    """A plain connection."""
    return await import_module("asyncpg").connect(url)
