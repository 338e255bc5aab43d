"""How sure an answer is, and what showed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VerdictKind = Literal["proven", "unverified", "refuted"]
Outcome = Literal["passed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One executed check.

    Attributes:
        check: the claim that was checked, in words.
        outcome: "passed" only when the check's code ran to its end.
        detail: what the check printed, or why it failed.
        code: the Python that was executed; empty for a check made by the assistant itself.
    """

    check: str
    outcome: Outcome
    detail: str
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of a run's answer, with the evidence of its last round of checks."""

    kind: VerdictKind
    evidence: tuple[Evidence, ...] = ()


def verdict_of(*, claims: tuple[Evidence, ...], files: tuple[Evidence, ...] = ()) -> Verdict:
    """Judge by executed checks alone.

    One failure refutes. Without a check of what the answer claims nothing is proven: files that open say
    nothing about the truth of the words.
    """
    evidence = (*claims, *files)
    if any(item.outcome == "failed" for item in evidence):
        return Verdict(kind="refuted", evidence=evidence)
    if not claims:
        return Verdict(kind="unverified", evidence=evidence)
    return Verdict(kind="proven", evidence=evidence)
