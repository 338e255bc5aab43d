"""`pythonic waiting`, `approve`, `refuse` and `answer`: what waits for the person, over all tasks."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from pythonic_assistant.adapters.store.approvals import Approvals
from pythonic_assistant.cli.account import account_of, sign_in
from pythonic_assistant.cli.deciding import as_json, how, print_approval
from pythonic_assistant.domain.decision import OUTCOMES, rule_words
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.visible import visible
from pythonic_assistant.settings import Settings

_PROMPT_CHARACTERS = 100


async def list_waiting(settings: Settings, *, printed_as_json: bool) -> int:
    """Print what waits, newest last, so that it stands above the next prompt; and the standing rules."""
    approvals = await _approvals(settings)
    waiting = await approvals.pending()
    rules = await approvals.rules()
    if printed_as_json:
        told = {
            "waiting": [as_json(one) for one in waiting],
            "standing_rules": [{"id": one.id, **one.rule} for one in rules],
        }
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return 0
    console = Console()
    if not waiting:
        console.print("Nothing waits for you.")
    for one in reversed(waiting):
        prompt = " ".join(visible(one.prompt, line=True).split())[:_PROMPT_CHARACTERS]
        console.print(f"\nTask {one.task_id}: {prompt}", markup=False, highlight=False, emoji=False)
        print_approval(console, one)
        console.print(f"  {how(one)}", markup=False, highlight=False, emoji=False)
    if rules:
        console.print("\nAllowed for good (the page takes them back, under Waiting for you):")
    for rule in rules:
        console.print(f"  {rule_words(rule.rule)[0]}", markup=False, highlight=False, emoji=False)
    return 0


async def approve(settings: Settings, number: int, *, always: bool) -> int:
    """Let it be done."""
    approvals = await _approvals(settings)
    state = await approvals.decide(number, "approve", always=always)
    _said(number, "Approved", state)
    return 0


async def refuse(settings: Settings, number: int, why: str | None) -> int:
    """Do not let it be done."""
    approvals = await _approvals(settings)
    state = await approvals.decide(number, "refuse", why)
    _said(number, "Refused", state)
    return 0


async def answer(settings: Settings, number: int, text: str) -> int:
    """Answer a question, or say what became of an action."""
    approvals = await _approvals(settings)
    found = await approvals.some([number])
    if not found:
        raise InvalidInputError(f"There is no question {number} to you. `pythonic waiting` lists those.")
    if found[0].kind == "unknown":
        if text not in OUTCOMES:
            raise InvalidInputError(f"Say one of {', '.join(OUTCOMES)}.")
        state = await approvals.decide(number, text)
    else:
        state = await approvals.decide(number, "answer", text)
    _said(number, "Answered", state)
    return 0


async def _approvals(settings: Settings) -> Approvals:
    return Approvals((await sign_in(account_of(settings))).client)


def _said(number: int, word: str, state: str) -> None:
    sys.stdout.write(f"{word} {number}; its task is {state} now.\n")
