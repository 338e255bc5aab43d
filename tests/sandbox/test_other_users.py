"""The same walls for other users, and in tier "landlock", which needs an interpreter for everybody.

As root the zygote switches to slot users; an ordinary user has user namespaces only, and without namespaces
Landlock's scopes only. `as_ordinary_user.py` sees to both without changing the host. All three start at once:
they mostly wait. A run of the tests as an ordinary user covers its own part by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Tests that run meanwhile, and where they write."""

    process: subprocess.Popen[bytes]
    output: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    folder = tmp_path_factory.mktemp("other-users")
    with ExitStack() as stack:
        started: dict[str, Running] = {}
        for name, words in AGAIN.items() if os.geteuid() == 0 else ():
            output = folder / name
            command = [sys.executable, str(HERE / "as_ordinary_user.py"), *words]
            process = stack.enter_context(
                subprocess.Popen(
                    [*command, "-q", "-p", "no:cacheprovider", "-x"],
                    stdout=stack.enter_context(output.open("wb")),
                    stderr=subprocess.STDOUT,
                )
            )
            stack.callback(process.kill)
            started[name] = Running(process=process, output=output)
        yield started


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.parametrize("name", AGAIN)
def test_everything_again(name: str, running: dict[str, Running]) -> None:
    if os.geteuid() != 0:
        assert os.geteuid() > 0
        return
    status = running[name].process.wait(SECONDS)
    text = running[name].output.read_text()
    assert status == 0, text[-8000:]
    assert " passed" in text
    assert "skipped" not in text
