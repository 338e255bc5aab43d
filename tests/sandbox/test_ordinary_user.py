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


@pytest.mark.timeout(240)
def test_everything_again_without_root() -> None:
    if os.geteuid() != 0:
        assert os.geteuid() > 0
        return
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "as_ordinary_user.py"),
            *("-m", "pytest", str(HERE), "-q", "-p", "no:cacheprovider", "-x"),
        ],
        capture_output=True,
        text=True,
        timeout=235,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
