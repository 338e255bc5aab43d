"""The same walls for an ordinary user: run as root, this runs the whole folder again as one.

As root the zygote switches to slot users; an ordinary user has user namespaces only. A run of the tests
as an ordinary user covers that by itself, and then there is nothing to repeat.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SAME = (
    *("packages", "choice", "importable", "refusal", "seed", "loop_in_the_sandbox", "channel", "bare_filter"),
    *("bwrap", "unsafe", "tiers_alike", "cgroup", "zygote_process", "interpreter_places"),
)
"""What does not depend on the user, or what `make attack` and `make ordinary` try as one in every tier."""


@pytest.mark.timeout(310)
def test_everything_again_without_root() -> None:
    if os.geteuid() != 0:
        assert os.geteuid() > 0
        return
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "as_ordinary_user.py"),
            *("-m", "pytest", str(HERE), "-q", "-p", "no:cacheprovider", "-x"),
            f"--ignore={HERE / 'landlock'}",  # test_landlock_tier.py runs it
            *(f"--ignore={HERE / f'test_{name}.py'}" for name in SAME),
            *("-k", "not every_attack and not bwrap"),  # one of each group, in the best tier
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
