"""Attempts to reach anything outside of the session."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import pytest_asyncio

from pythonic_assistant.adapters.sandbox.choice import Tier, Wanted
from pythonic_assistant.adapters.sandbox.interpreter import python_paths
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from tests.sandbox.as_ordinary_user import is_reachable
from tests.sandbox.suite.arena import arena
from tests.sandbox.suite.attack import BOXED, EVERYWHERE, Attack
from tests.sandbox.suite.attacks import ALL, BY_NAME, for_one_session, for_tier
from tests.sandbox.suite.layers_off import LAYERS, LayerOff
from tests.sandbox.suite.programmes import GROUPS
from tests.sandbox.suite.run_attacks import in_tier, with_layer_off
from tests.sandbox.suite.tiers import OPENERS, missing
from tests.sandbox.suite.trial import Trial
from tests.sandbox.suite.way_out import API, OTHER, way_out

pytestmark = pytest.mark.asyncio(loop_scope="session")

_SHORT = ("seccomp", "network", "root")  # `make attack` takes off every layer, as both users


def _one_of_each_group(tier: str) -> dict[str, Attack]:
    """Of those attacks that are not tried in a shared session."""
    shared = for_one_session(tier)
    return {attack.group: attack for attack in reversed(for_tier(tier)) if attack not in shared}


def _not_here(tier: str) -> str:
    """Say why a tier cannot be tried by this process; `make attack` sees to all that the machine offers."""
    if tier == "landlock" and os.geteuid() == 0 and not all(map(is_reachable, python_paths())):
        return "the users of sessions cannot reach the interpreter; test_other_users.py shows it to them"
    return missing(tier)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trial(sandbox: NamespaceSandbox) -> AsyncIterator[Trial]:
    async with way_out() as way, arena(sandbox, way) as place:
        yield await Trial.begin(place)


async def test_no_tier_that_walls_anything_in_is_left_out() -> None:
    assert {*OPENERS, "unsafe", "auto"} == {*get_args(Tier), "auto"} == set(get_args(Wanted))
    assert set(OPENERS) == EVERYWHERE
    for tier in OPENERS:
        assert len(for_tier(tier)) >= 200


@pytest.mark.parametrize("tier", sorted(BOXED))
async def test_a_granted_host_gets_the_secret_and_no_other_does(tier: str) -> None:
    if _not_here(tier):
        return
    async with way_out() as way, OPENERS[tier]() as sandbox:
        await way.ensure_leads_out(sandbox)
        assert way.secret.value.encode() in way.heard[API]
        assert way.harm() == ""
        async with await sandbox.open(access=way.access) as session:
            ask = f"import os, urllib.request\nurllib.request.urlopen('http://{OTHER}/' + {{}}).status"
            assert (await session.execute(ask.format("'plain'"), timeout=30)).value == "200"
            refused = await session.execute(ask.format("os.environ['API_TOKEN']"), timeout=30)
            assert "HTTPError" in refused.error
        assert b"/plain" in way.heard[OTHER]
        assert b"PLACEHOLDER" not in way.heard[OTHER]


async def test_catalogue_is_whole() -> None:
    assert len(BY_NAME) >= 350
    assert all(attack.meaning and attack.stopped_by and attack.tiers for attack in BY_NAME.values())
    assert {name for layer in LAYERS for name in layer.bites} <= set(BY_NAME)


async def test_the_documentation_tells_how_many_there_are() -> None:
    """On any machine: attacks that are for one kind of processor count, too."""
    text = (Path(__file__).resolve().parents[2] / "docs/security.md").read_text()
    told = re.search(
        r"(\d+) attacks .*\((\d+) make sense in namespaces and in bwrap, (\d+) in landlock\)", text
    )
    fitting = [sum(tier in attack.tiers for attack in ALL) for tier in ("namespaces", "bwrap", "landlock")]
    assert told is not None
    assert [int(number) for number in told.groups()] == [len(ALL), fitting[0], fitting[2]]
    assert fitting[0] == fitting[1]
    ordinary = re.search(r"(\d+) everyday programmes in the same tiers \((\d+) in landlock\)", text)
    assert ordinary is not None
    programmes = [programme for group in GROUPS.values() for programme in group]
    inside = [programme for programme in programmes if "landlock" in programme.tiers]
    assert [int(number) for number in ordinary.groups()] == [len(programmes), len(inside)]


@pytest.mark.parametrize(
    "name", [a.name for a in for_tier("namespaces") if a not in for_one_session("namespaces")]
)
async def test_every_attack_is_stopped(name: str, trial: Trial) -> None:
    outcome = await trial.run(BY_NAME[name])
    assert outcome.held, outcome.trouble


@pytest.mark.parametrize("tier", sorted(BOXED))
async def test_attacks_that_leave_their_session_whole_are_stopped(tier: str) -> None:
    """In few sessions, which takes seconds; `make attack` gives each its own where that is cheap."""
    if _not_here(tier):
        return
    chosen = for_one_session(tier)
    assert len(chosen) >= 170
    async with way_out() as way, OPENERS[tier]() as sandbox, arena(sandbox, way) as place:
        await way.ensure_leads_out(sandbox)
        trial = await Trial.begin(place)
        outcomes = [outcome async for outcome in trial.run_together(chosen)]
    assert len(outcomes) == len(chosen)
    assert [outcome for outcome in outcomes if not outcome.held] == []


@pytest.mark.parametrize(
    "change",
    [
        "os.chdir('/tmp')",
        "open('left', 'w').close()",
        "os.dup(0)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
        "if os.fork() == 0: time.sleep(600)",
        "os.environ['LEFT'] = '1'",
        "os.umask(0o777)",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
        "os.nice(1)",
        "import builtins; builtins.abs = None",
        "os._exit(0)",
    ],
)
async def test_a_session_that_is_not_as_it_was_is_not_shared(change: str, trial: Trial) -> None:
    """Else what one attack changed could be why the next is stopped."""
    first, last = (
        replace(BY_NAME["host file"], name=name, code=f"{code}\nraise OSError('stopped')")
        for name, code in (("first", "sys.first = 1\n" + change), ("last", ""))
    )
    last = replace(last, code="if hasattr(sys, 'first'): return 'shared'\n" + last.code)
    outcomes = {outcome.attack: outcome async for outcome in trial.run_together([first, last])}
    assert not outcomes["last"].through
    assert outcomes["last"].held
    assert outcomes["first"].held is (change != "os._exit(0)")


async def test_a_session_that_is_as_it_was_is_shared(trial: Trial) -> None:
    first = replace(BY_NAME["host file"], name="first", code="sys.first = 1\nraise OSError('stopped')")
    last = replace(first, name="last", code="if hasattr(sys, 'first'): return 'shared'\nraise OSError('no')")
    through = [outcome.through async for outcome in trial.run_together([first, last])]
    assert through == [False, True]


@pytest.mark.parametrize("tier", OPENERS)
async def test_one_attack_of_each_group_is_stopped(tier: str) -> None:
    if _not_here(tier):
        return
    chosen = tuple(_one_of_each_group(tier).values())
    outcomes = [outcome async for outcome in in_tier(tier, chosen)]
    assert len(outcomes) == len(chosen) >= 6
    assert [outcome for outcome in outcomes if not outcome.held] == []


@pytest.mark.parametrize(
    "layer", [layer for layer in LAYERS if layer.layer in _SHORT], ids=lambda off: off.layer
)
async def test_attacks_bite_with_a_layer_off(layer: LayerOff) -> None:
    outcomes = [outcome async for outcome in with_layer_off(layer)]
    assert len(outcomes) == len(layer.bites)
    assert [outcome for outcome in outcomes if not outcome.through] == []


async def test_session_has_no_privileges_at_all(session: NamespaceSession) -> None:
    result = await session.execute(
        "fields = dict(l.split(':', 1) for l in open('/proc/self/status').read().splitlines() if ':' in l)\n"
        "[int(fields[n], 16) for n in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')], "
        "fields['NoNewPrivs'].strip(), fields['Seccomp'].strip()",
        timeout=5,
    )
    assert result.value == "([0, 0, 0, 0, 0], '1', '2')"


async def test_environment_is_empty_of_the_host(session: NamespaceSession) -> None:
    os.environ["PYTHONIC_TEST_SECRET"] = "not for sessions"
    try:
        result = await session.execute("import os; sorted(os.environ)", timeout=5)
        from_kernel = await session.execute("open('/proc/self/environ').read()", timeout=5)
    finally:
        del os.environ["PYTHONIC_TEST_SECRET"]
    assert "'HOME'" in result.value
    for name in ("PYTHONIC_TEST_SECRET", "OPENAI_API_KEY", "SUPABASE_SECRET_KEY", "PYTEST_CURRENT_TEST"):
        assert name not in result.value
        assert name not in from_kernel.value


async def test_descriptors_are_only_its_own(session: NamespaceSession) -> None:
    result = await session.execute(
        "import os\nsorted(os.readlink(f'/proc/self/fd/{n}').split(':')[0] "
        "for n in os.listdir('/proc/self/fd') "
        "if os.path.lexists(f'/proc/self/fd/{n}'))",
        timeout=5,
    )
    # null twice (descriptor 0, and sys.stdin), two pipes, the control socket
    assert result.value == "['/dev/null', '/dev/null', 'pipe', 'pipe', 'socket', 'socket']"


async def test_random_numbers_differ_between_sessions(sandbox: NamespaceSandbox) -> None:
    values = []
    for _ in range(2):
        made = await sandbox.open()
        values.append(
            (
                await made.execute("import random, numpy\nrandom.random(), numpy.random.rand()", timeout=5)
            ).value
        )
        await made.close()
    first, second = (eval(value, {"np": None}) if "np." not in value else value for value in values)
    assert first != second
