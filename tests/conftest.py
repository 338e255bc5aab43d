"""What all tests share, and how they are dealt to the processes that run them side by side.

`make test` runs two of them. The sandbox's tests stay together in one: they look at what is left on the
machine and share the limits of one ordinary user. Of the rest a file stays together, because its tests share
what they have started.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.embedded_fixtures", "tests.servers.fixtures"]


class Lanes(LoadScopeScheduling):
    """Deals the sandbox's tests as one piece, and each other file as one."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/sandbox" if nodeid.startswith("tests/sandbox/") else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    """Make xdist deal so, whatever `--dist` says."""
    return Lanes(config, log)
