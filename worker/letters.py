"""The words of an e-mail about a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_WORDS: Final = {
    "scheduled": "is scheduled",
    "held": "is held",
    "queued": "is queued",
    "running": "has begun",
    "waiting": "waits for you",
    "succeeded": "is done",
    "failed": "has failed",
    "cancelled": "was cancelled",
}
_SUBJECT: Final = 70


def letter_of(payload: Mapping[str, Any], *, rule: str) -> tuple[str, str]:
    """Return subject and text.

    Args:
        payload: of a delivery.
        rule: the name of the rule that asked for it.
    """
    data: Mapping[str, Any] = payload.get("data", {})
    what = _WORDS.get(str(data.get("state")), "has changed")
    prompt = str(data.get("prompt") or "")
    line = " ".join(prompt.split())
    short = line if len(line) <= _SUBJECT else line[: _SUBJECT - 1].rstrip() + "…"
    test = payload.get("type") == "rule.test"
    subject = f"Test of the rule “{rule}”" if test else f"A task {what}: {short}"
    parts = [f"Your task {what}." if not test else "This is only a test: no task has failed."]
    if data.get("verdict"):
        parts.append(f"Verdict: {data['verdict']}")
    parts.append(f"Asked:\n{prompt}")
    for name, title in (("error", "Error"), ("answer", "Answer")):
        if data.get(name):
            parts.append(f"{title}:\n{data[name]}")
    if data.get("shortened"):
        parts.append("Long parts are shortened here; the page shows all of it.")
    if not test:
        parts.append(
            f"Task {data.get('task_id')}, {str(payload.get('timestamp'))[:16].replace('T', ' ')} UTC"
        )
    parts.append(
        f"You get this because of the rule “{rule}”. Pause it on the page under Rules, or with "
        "`pythonic rules pause`."
    )
    return subject, "\n\n".join(parts) + "\n"
