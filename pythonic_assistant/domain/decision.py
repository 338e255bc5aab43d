"""What waits for a person, what they can decide about it, and what they have allowed for good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, cast

from pythonic_assistant.domain.visible import visible

ApprovalKind = Literal["effect", "unknown", "question"]
OUTCOMES: Final = {
    "happened": "It happened",
    "again": "It did not: do it again",
    "stop": "Stop the task",
}
"""What can be decided about an action whose outcome is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Something that a person is asked. Fields as in the table `approvals`.

    Attributes:
        choices: of a question; empty for free text.
        action: the name of what would be done.
        risk: of it.
        prompt: of the task.
    """

    id: int
    task_id: int
    kind: ApprovalKind
    question: str
    state: str
    created_at: datetime
    expires_at: datetime
    preview: Mapping[str, Any] = field(default_factory=dict[str, Any])
    choices: tuple[str, ...] = ()
    standing: Mapping[str, Any] | None = None
    answer: str | None = None
    decided_at: datetime | None = None
    decided_by: str | None = None
    action: str = ""
    risk: str = ""
    thread_id: str | None = None
    prompt: str = ""

    @property
    def pending(self) -> bool:
        """Whether it has yet to be decided."""
        return self.state == "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingRule:
    """What a person has allowed for good. `rule` is as `Approval.standing`."""

    id: int
    rule: Mapping[str, Any]
    created_at: datetime


def rule_words(rule: Mapping[str, Any]) -> tuple[str, str]:
    """What a standing rule allows, as a name for it and as its exact meaning; both plain text, visible."""
    if rule.get("host"):
        method, host = (visible(str(rule.get(name)), line=True) for name in ("method", "host"))
        return (
            f"{method} requests to {host}",
            f"Code of every task of yours may then send {method} requests to {host} without asking, whatever "
            "their path and content, where it may reach that host at all. Never what cannot be undone.",
        )
    tool = visible(str(rule.get("tool")), line=True)
    recipient = rule.get("recipient")
    given = cast("Mapping[str, Any]", recipient if isinstance(recipient, Mapping) else {})
    whom = ", ".join(
        f"“{visible(str(name), line=True)}” is {visible(_text(value), line=True)}"
        for name, value in given.items()
    )
    return (
        f"{tool}, when {whom}",
        f"Every task of yours may then use {tool} without asking when {whom} exactly, whatever else it is "
        "given, also where it cannot be undone.",
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(_text(item) for item in cast("list[Any]", value))
    return "empty" if value is None else str(value)


def settled_words(approval: Approval) -> str:
    """What was decided, in words: "Approved", "Refused: too early"; "" while it is not."""
    said = visible(approval.answer or "", line=True)
    if approval.kind == "unknown" and approval.state == "answered":
        return f"“{OUTCOMES.get(approval.answer or '', said)}”"
    return {
        "approved": "Approved",
        "refused": f"Refused: {said}" if said.strip() else "Refused",
        "answered": f"Answered: {said}",
        "expired": {
            "effect": "Expired: nobody decided in time, so it was not done",
            "unknown": "Expired: nobody decided in time, so it was not done again",
            "question": "Expired: nobody answered in time",
        }[approval.kind],
        "cancelled": "Not needed any more: the task ended",
    }.get(approval.state, "")


def expiry_words(approval: Approval) -> str:
    """What happens when nobody decides."""
    return {
        "effect": "it is then not done, and the task goes on without it",
        "unknown": "it is then not done again, and the task goes on without knowing",
        "question": "the task then goes on without an answer",
    }[approval.kind]
