"""The same walls for other users, and in tier "landlock", which needs an interpreter for everybody.

As root the zygote switches to slot users; an ordinary user has user namespaces only, and without namespaces
Landlock's scopes only. `as_ordinary_user.py` sees to both without changing the host. A run of the tests as an
ordinary user covers its own part by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.as_ordinary_user import STAY_ROOT

HERE = Path(__file__).parent
SECONDS = 300
WITHOUT_NAMESPACES = (str(HERE / "landlock"), str(HERE / "test_tiers_alike.py"), "-k", "landlock")
DEPENDS_ON_THE_USER = (
    *("attacks", "ordinary_programs", "access", "tools", "folder", "results", "variables", "checkpoints"),
    *("limits", "lifetimes", "hostile_host_channel"),
)
"""Everything else is the host's own logic, or what `make attack` and `make ordinary` try in every tier."""
AGAIN = {
    "landlock, root": (STAY_ROOT, "-m", "pytest", *WITHOUT_NAMESPACES),
    "landlock, ordinary": ("-m", "pytest", *WITHOUT_NAMESPACES),
    "ordinary": (
        *("-m", "pytest", *(str(HERE / f"test_{name}.py") for name in DEPENDS_ON_THE_USER)),
        # One attack of each group, in the best tier; what the host reads does not depend on users.
        *("-k", "not every_attack and not bwrap and not forged_catalogue and not not_as_it_was"),
    ),
}


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.parametrize("name", AGAIN)
def test_everything_again(name: str) -> None:
    if os.geteuid() != 0:
        assert os.geteuid() > 0
        return
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "as_ordinary_user.py"),
            *AGAIN[name],
            "-q",
            "-p",
            "no:cacheprovider",
            "-x",
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
