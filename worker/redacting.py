"""The end of a run without the values of secrets, for the rows in which it is kept."""

from __future__ import annotations

from dataclasses import replace

from pythonic_assistant.domain.event import RunFailed, RunSucceeded, RunWaiting
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.verdict import Evidence


def without_secrets(
    ending: RunSucceeded | RunFailed | RunWaiting, redactor: Redactor
) -> RunSucceeded | RunFailed | RunWaiting:
    """Return the same ending with placeholders where values were."""
    if isinstance(ending, RunWaiting):
        return replace(ending, reason=redactor.text(ending.reason))
    if isinstance(ending, RunSucceeded):
        verdict = replace(ending.verdict, evidence=_evidence(ending.verdict.evidence, redactor))
        return replace(ending, answer=redactor.text(ending.answer), verdict=verdict)
    return replace(
        ending,
        error=redactor.text(ending.error),
        refuted_answer=redactor.text(ending.refuted_answer),
        evidence=_evidence(ending.evidence, redactor),
    )


def _evidence(evidence: tuple[Evidence, ...], redactor: Redactor) -> tuple[Evidence, ...]:
    return tuple(
        replace(
            item,
            check=redactor.text(item.check),
            detail=redactor.text(item.detail),
            code=redactor.text(item.code),
        )
        for item in evidence
    )
