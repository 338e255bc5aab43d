"""`make ordinary`: everyday programmes, in every tier that this machine offers, as root and otherwise.

Walls that stop honest work would be switched off. Exit status 0 only if every programme came to its value.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator

from pythonic_assistant.domain.errors import AssistantError
from pythonic_assistant.domain.execution import Execution
from pythonic_assistant.ports import NO_ACCESS, Access, Sandbox
from tests.sandbox.suite import both_users, tiers
from tests.sandbox.suite.both_users import Line
from tests.sandbox.suite.online import online
from tests.sandbox.suite.programmes import Programme, for_tier


def wrong(programme: Programme, result: Execution) -> str:
    """Say what is wrong with a result; empty when nothing is."""
    if result.outcome != "ok":
        return f"{result.outcome}: {result.error.strip()[-400:]}"
    if result.value != programme.value:
        return f"{result.value[:300]} instead of {programme.value}"
    return f"it wrote to standard error: {result.stderr.strip()[:300]}" if result.stderr else ""


async def run(sandbox: Sandbox, programme: Programme, access: Access) -> str:
    """Run one programme in a session of its own; say what is wrong.

    Args:
        sandbox: where.
        programme: what.
        access: of those programmes that go online.
    """
    session = await sandbox.open(access=access if programme.online else NO_ACCESS)
    try:
        return wrong(programme, await session.execute(programme.code, timeout=programme.seconds))
    finally:
        await session.close()


async def results() -> AsyncIterator[Line]:
    """Do everything that this user can."""
    for tier in tiers.OPENERS:
        column = f"{tier}, {tiers.user()}"
        if reason := tiers.missing(tier):
            yield Line.not_offered(column, reason)
            continue
        try:
            async with online() as access, tiers.OPENERS[tier]() as sandbox:
                for group, programme in for_tier(tier):
                    began = time.monotonic()
                    note = await run(sandbox, programme, access)
                    yield Line(
                        column=column,
                        row=group,
                        name=programme.name,
                        good=not note,
                        note=note,
                        seconds=time.monotonic() - began,
                    )
        except (AssistantError, RuntimeError) as error:
            yield Line(column=column, row="the tier", name=tier, good=False, note=f"skipped: {error}")


if __name__ == "__main__":
    sys.exit(both_users.main(results, "tests.sandbox.suite.run_ordinary", __doc__))
