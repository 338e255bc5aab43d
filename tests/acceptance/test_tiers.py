"""The assistant on each tier that has to be asked for: a sample task is proven, or the tier is refused."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox import open_sandbox
from pythonic_assistant.adapters.sandbox.interpreter import python_paths
from pythonic_assistant.domain.errors import SandboxUnavailableError
from tests.acceptance.stack import ROOT, running_stack
from tests.sandbox.as_ordinary_user import is_reachable
from tests.sandbox.suite import tiers

PROMPT = "Make a table of the mean body mass by species and sex, and save it as CSV"
PENGUINS = ROOT / "examples" / "penguins.csv"

pytestmark = pytest.mark.timeout(150)


async def _open_landlock() -> None:
    async with open_sandbox(wanted="landlock"):
        pass


@pytest.mark.parametrize("tier", ["bwrap", "landlock", "unsafe"])
def test_a_sample_task_is_proven_or_the_tier_says_what_it_lacks(tier: str, tmp_path: Path) -> None:
    settings = {"PYTHONIC_SANDBOX": tier}
    if tier == "landlock" and os.geteuid() == 0 and not all(is_reachable(p) for p in python_paths()):
        with pytest.raises(SandboxUnavailableError, match="users of sessions cannot read"):
            asyncio.run(_open_landlock())
        return
    assert tier == "unsafe" or not tiers.missing(tier)
    with running_stack(settings) as stack:
        answer = stack.ask(PROMPT, PENGUINS, out=tmp_path, seconds=90)
    assert (answer["state"], answer["verdict"]) == ("succeeded", "proven"), answer
    assert answer["evidence"]
