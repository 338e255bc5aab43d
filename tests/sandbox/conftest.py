"""One zygote for all tests of this folder, as a worker has one for all of its runners.

A host that cannot isolate makes every test fail with the explaining error: a skip would hide it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from pythonic_assistant.adapters.sandbox import zygote_sandbox
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox() -> AsyncIterator[NamespaceSandbox]:
    async with zygote_sandbox() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def session(sandbox: NamespaceSandbox) -> AsyncIterator[NamespaceSession]:
    async with await sandbox.open() as made:
        yield made
