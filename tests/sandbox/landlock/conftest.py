"""Zygotes of tier "landlock", as new as this kernel and as old ones have it.

Sessions run as users of their own where the tests run as root; these users must be able to go to the
interpreter. `test_other_users.py` in the folder above runs this one where they can.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from pythonic_assistant.adapters.sandbox import connect_sandbox
from pythonic_assistant.adapters.sandbox.interpreter import python_paths
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess
from tests.sandbox.as_ordinary_user import is_reachable

if os.geteuid() == 0 and not all(is_reachable(path) for path in python_paths()):
    collect_ignore_glob = ["test_*.py"]

# 5 lacks the scope of signals, 3 is the oldest for ordinary users, 1 for root.
VERSIONS = (None, 5, 1 if os.geteuid() == 0 else 3)


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=VERSIONS, ids=lambda v: f"abi-{v}")
async def zygote(request: pytest.FixtureRequest) -> AsyncIterator[ZygoteProcess]:
    async with ZygoteProcess(tier="landlock", landlock_most=request.param) as started:
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def newest() -> AsyncIterator[ZygoteProcess]:
    async with ZygoteProcess(tier="landlock") as started:
        yield started


@pytest.fixture
def sandbox(newest: ZygoteProcess) -> NamespaceSandbox:
    return connect_sandbox(newest.socket_path)


@pytest_asyncio.fixture(loop_scope="session")
async def session(sandbox: NamespaceSandbox) -> AsyncIterator[NamespaceSession]:
    async with await sandbox.open() as made:
        yield made
