"""Which tier is taken: the strongest that works, never a weaker one than was named, and it is told why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox import connect_sandbox, open_sandbox
from pythonic_assistant.adapters.sandbox.diagnosis import TierUnavailableError, all_unavailable
from pythonic_assistant.domain.errors import SandboxUnavailableError

HERE = Path(__file__).parent


def narrowed(wanted: str, *refused: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / "narrowed.py"), wanted, ",".join(refused)],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


async def test_auto_takes_the_strongest_and_has_nothing_to_add(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with open_sandbox(path) as sandbox:
        assert (sandbox.tier, sandbox.note) == ("namespaces", "")
        assert connect_sandbox(path).tier == "namespaces"


def test_where_only_bwrap_may_make_namespaces_it_does() -> None:
    """As with Ubuntu's profile: the zygote's own call is refused, bwrap's another one is not."""
    said = narrowed("auto", "unshare")
    assert said.startswith("TIER bwrap\nNOTE Code is isolated by tier bwrap, because stronger ones"), said
    assert "namespaces: Failed at:" in said
    assert "Operation not permitted" in said
    assert said.endswith("GOT 42\n")


def test_a_named_tier_is_never_replaced() -> None:
    said = narrowed("namespaces", "unshare")
    assert said.startswith("REFUSED This host cannot isolate generated code"), said
    assert "bwrap:" not in said
    assert "TIER" not in said


def test_a_host_without_any_tier_is_told_what_each_lacks_and_each_fix() -> None:
    said = narrowed("auto", "unshare", "mount", "landlock_create_ruleset")
    assert said.startswith("REFUSED This host cannot isolate generated code, so none will be run.\n"), said
    for tier in ("namespaces", "bwrap", "landlock"):
        assert f"\n  {tier}: " in said
    assert "bwrap: A box did not start: bwrap: " in said, "its own complaint is missing"
    assert "Do ONE of these:\n  (a) " in said
    assert "Landlock is missing or switched off" in said
    assert "`lsm=` list" in said
    assert "deploy/" in said
    assert "unsafe" not in said


def test_without_bubblewrap_its_installation_is_a_fix(tmp_path: Path) -> None:
    said = narrowed("bwrap", PATH=str(tmp_path))
    assert "REFUSED" in said
    assert "Bubblewrap is not installed" in said
    assert "apt-get install bubblewrap" in said


def test_a_bwrap_that_does_not_work_is_refused_with_its_complaint(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    said = narrowed("bwrap", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert "A box did not start: bwrap: setting up uid map: Permission denied" in said


def test_a_bwrap_that_walls_nothing_in_does_not_stand_the_self_test(tmp_path: Path) -> None:
    """A programme of that name that only starts the command, without any namespace."""
    hollow = tmp_path / "bwrap"
    hollow.write_text(
        f"#!{sys.executable}\nimport os, sys\nwords = sys.argv[sys.argv.index('--') + 1:]\n"
        f"words[3] = {str(HERE.parents[1] / 'pythonic_assistant/adapters/sandbox/inside/__main__.py')!r}\n"
        "os.execv(words[0], words)\n"
    )
    hollow.chmod(0o755)
    said = narrowed("bwrap", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert said.startswith("REFUSED"), said


def test_fixes_are_named_once_and_in_order() -> None:
    text = all_unavailable(
        [
            ("namespaces", TierUnavailableError(["It failed.", "More."], ["do this", "do that"])),
            ("bwrap", TierUnavailableError(["Gone."], ["do this"])),
            ("landlock", SandboxUnavailableError("It has\na hole.")),
        ]
    )
    assert text == (
        "This host cannot isolate generated code, so none will be run.\n"
        "  namespaces: It failed. More.\n  bwrap: Gone.\n  landlock: It has a hole.\n"
        "Do ONE of these:\n  (a) do this\n  (b) do that\n"
        "  (c) run the worker in the container of deploy/, or on another machine"
    )


@pytest.mark.parametrize(("platform", "name"), [("darwin", "macOS"), ("win32", "Windows")])
async def test_other_systems_are_shown_the_container_way(
    platform: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(SandboxUnavailableError, match=rf"{name}.*deploy/"):
        async with open_sandbox():
            pytest.fail("it started")


def test_where_nothing_may_make_namespaces_landlock_is_left() -> None:
    said = narrowed("auto", "unshare", "mount")
    if said.startswith("REFUSED"):
        # Root's sessions have users of their own, who have to be able to reach the interpreter.
        assert os.geteuid() == 0
        assert "the users of sessions cannot read" in said, said
        assert said.count("where everybody may read them") == 1, "what to do is said once"
        return
    assert said.startswith("TIER landlock\nNOTE Code is isolated by tier landlock"), said
    assert "namespaces: Failed at:" in said
    assert "bwrap: A box did not start:" in said
    assert said.endswith("GOT 42\n")
