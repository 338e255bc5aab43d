"""What a programme is."""

from __future__ import annotations

from dataclasses import dataclass

from tests.sandbox.suite.attack import BOXED, EVERYWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """One programme.

    Attributes:
        value: `repr` of its last expression.
        needs: packages; where one is not installed, the programme is not for this installation.
        tiers: where it must work.
        seconds: what it may take on a busy machine.
        online: it is granted the hosts of `online`.
    """

    name: str
    code: str
    value: str
    needs: tuple[str, ...] = ()
    tiers: frozenset[str] = EVERYWHERE
    seconds: float = 30.0
    online: bool = False


def programme(name: str, code: str, value: str, *needs: str, boxed: bool = False) -> Programme:
    """Return one for every tier, or for those with namespaces."""
    tiers = BOXED if boxed else EVERYWHERE
    return Programme(name=name, code=code, value=value, needs=needs, tiers=tiers)
