"""The catalogue: one module for each group, one idea for each attack."""

from __future__ import annotations

import platform

from tests.sandbox.suite.attack import Attack
from tests.sandbox.suite.attacks import (
    artifacts,
    bare,
    bombs,
    channel,
    checks,
    egress,
    files,
    kernel,
    namespaces,
    network,
    peers,
    persistence,
    processes,
    surroundings,
)

ALL: tuple[Attack, ...] = (
    *files.ATTACKS,
    *surroundings.ATTACKS,
    *processes.ATTACKS,
    *namespaces.ATTACKS,
    *kernel.ATTACKS,
    *network.ATTACKS,
    *bombs.ATTACKS,
    *artifacts.ATTACKS,
    *channel.ATTACKS,
    *persistence.ATTACKS,
    *peers.ATTACKS,
    *checks.ATTACKS,
    *egress.ATTACKS,
    *bare.ATTACKS,
)
BY_NAME = {attack.name: attack for attack in ALL}
if len(BY_NAME) != len(ALL):
    raise ValueError("two attacks have the same name")


_QUIET = (
    *("files", "environ, /proc", "signals, ptrace", "namespaces", "kernel", "network", "peers"),
    *(egress.GROUP, bare.GROUP),
)
"""Groups of which most attacks leave their session as it was."""


def for_one_session(tier: str) -> tuple[Attack, ...]:
    """Return those attacks that can be tried one after the other in the same session.

    Others end it, have limits of their own, or are judged by what comes after its end.
    """
    return tuple(attack for attack in for_tier(tier) if attack.group in _QUIET and attack.can_share)


def for_tier(tier: str) -> tuple[Attack, ...]:
    """Return the attacks that make sense in a tier, as `tiers` names it, on this machine."""
    return tuple(
        attack for attack in ALL if tier in attack.tiers and attack.machine in (None, platform.machine())
    )
