"""Tier "landlock" as root, whose sessions get users of their own, and as an ordinary user.

As root the interpreter has to be where everybody may go; `as_ordinary_user.py` sees to that without
changing the host. Run as an ordinary user, there is nothing to repeat.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.as_ordinary_user import STAY_ROOT

HERE = Path(__file__).parent


@pytest.mark.timeout(200)
@pytest.mark.parametrize("who", [(STAY_ROOT,), ()], ids=["root", "ordinary user"])
def test_sessions_without_namespaces(who: tuple[str, ...]) -> None:
    if os.geteuid() != 0:
        assert os.geteuid() > 0
        return
    done = subprocess.run(
        [
            *(sys.executable, str(HERE / "as_ordinary_user.py"), *who, "-m", "pytest"),
            *(str(HERE / "landlock"), str(HERE / "test_tiers_alike.py"), "-k", "landlock"),
            *("-q", "-p", "no:cacheprovider", "-x"),
        ],
        capture_output=True,
        text=True,
        timeout=190,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
