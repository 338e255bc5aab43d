"""Rules and deliveries in the words that people read."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from live.rule_desk import DeliveryRow, RuleRow
from live.wording import STATE_WORDS, ago, counted, literal, plain, until

STATE_CHOICES: Final = {name: words.partition(":")[0] for name, words in STATE_WORDS.items()}
ACTION_CHOICES: Final = {"email": "Send an e-mail", "webhook": "Call a webhook", "task": "Start a task"}
VERDICT_CHOICES: Final = {"proven": "Proven", "unverified": "Unverified", "refuted": "Refuted"}
_WHENS: Final = {
    "scheduled": "is scheduled",
    "held": "is held",
    "queued": "is queued",
    "running": "begins to run",
    "waiting": "waits for you",
    "succeeded": "is done",
    "failed": "fails",
    "cancelled": "is cancelled",
}


def when(rule: RuleRow) -> str:
    """ "When a task fails or is done, with the verdict refuted": Markdown."""
    states = [_WHENS.get(state, state) for state in rule.states]
    words = f"When a task {_either(states)}" if states else "Whenever a task's state changes"
    verdicts = [str(verdict) for verdict in rule.pattern.get("verdicts", ())]
    if verdicts:
        words += f", {_either(verdicts)}"
    labels = [str(label) for label in rule.pattern.get("labels", ())]
    if labels:
        words += f", labelled {_either(labels)}"
    if rule.pattern.get("assistants"):
        words += f", of {counted(len(rule.pattern['assistants']), 'assistant')}"
    return plain(words)


def then(rule: RuleRow) -> str:
    """ "write an e-mail to you": Markdown."""
    match rule.action:
        case "webhook":
            return f"call {literal(str(rule.target.get('url', '')))}"
        case "email":
            return f"write an e-mail to {plain(str(rule.target.get('to') or 'you'))}"
        case _:
            prompt = " ".join(str(rule.target.get("prompt", "")).split())
            cut = prompt if len(prompt) <= 120 else prompt[:119].rstrip() + "…"
            same = " in the same thread" if rule.target.get("same_thread") else ""
            return f"start a task{same}: “{plain(cut)}”"


def delivery_line(delivery: DeliveryRow, now: datetime) -> str:
    """One line about a delivery: Markdown."""
    what = (
        "Test"
        if delivery.event == "rule.test"
        else f"Task {delivery.task_id}: {delivery.event.partition('.')[2]}"
    )
    parts = [f"**{plain(what)}**", ago(delivery.created_at, now) if delivery.created_at else ""]
    match delivery.state:
        case "delivered":
            made = f"started task {delivery.made_task_id}" if delivery.made_task_id else "delivered"
            parts.append(f":green[:material/check: {made}]")
        case "dead":
            parts.append(":red[:material/error: not delivered]")
        case "delivering":
            parts.append(":blue[:material/pending: on its way]")
        case _:
            due = until(delivery.next_try_at, now) if delivery.next_try_at else ""
            words = f"next try {due}" if delivery.tries else "on its way"
            parts.append(f":orange[:material/schedule: {words}]")
    if delivery.tries > 1:
        parts.append(f"{delivery.tries} tries")
    return " · ".join(part for part in parts if part)


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
