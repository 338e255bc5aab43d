"""What all tests share, and how they are dealt to the two processes that run them side by side.

`make test` runs two of them (`--dist loadgroup`). The sandbox's tests stay together in one: they look at what
is left on the machine and share the limits of one ordinary user. Of the rest a file stays together, because
its tests share what they have started.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["tests.embedded_fixtures", "tests.servers.fixtures"]

SANDBOX = Path(__file__).parent / "sandbox"


@pytest.hookimpl(tryfirst=True)  # xdist reads the mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test into a group; one group runs in one process, in order."""
    for item in items:
        group = "sandbox" if item.path.is_relative_to(SANDBOX) else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
