"""What waits for the person, in a terminal: shown whole, asked when somebody sits there, decided."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import termios
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.cells import chop_cells
from rich.console import Console

from pythonic_assistant.adapters.store.approvals import Approvals
from pythonic_assistant.domain.decision import (
    OUTCOMES,
    Approval,
    expiry_words,
    rule_words,
    settled_words,
)
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.preview import sections
from pythonic_assistant.domain.visible import visible

_SIGNS = {"+": "green", "-": "red"}


_TITLES = {
    "effect": "Your approval is needed",
    "unknown": "It is not known whether this happened",
    "question": "The assistant asks you",
}


def print_approval(console: Console, approval: Approval) -> None:
    """Print what is asked, whole. Not ours is what stands behind a bar."""
    _say(console, f"\n[{approval.id}] {_TITLES[approval.kind]}", "bold")
    _quote(console, visible(approval.question))
    for part in sections(approval.preview) if approval.kind != "question" else ():
        note = f" ({part.note})" if part.note else ""
        if part.kind == "line":
            _quote(console, f"{part.label}: {part.text}")
        else:
            _say(console, f"  {part.label}{note}:")
            _quote(console, part.text, diff=part.kind == "diff")
        if part.warning:
            _say(console, f"  ! {part.warning}", "yellow")
    for number, choice in enumerate(approval.choices, start=1):
        _quote(console, f"{number}. {visible(choice, line=True)}")
    expires = approval.expires_at.astimezone(UTC)
    _say(console, f"  Expires on {expires:%Y-%m-%d %H:%M} UTC: {expiry_words(approval)}.", "dim")


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _quote(console: Console, text: str, *, diff: bool = False) -> None:
    for line in text.split("\n"):
        style = _SIGNS.get(line[:1]) if diff else None
        # Where a terminal would break the line, what follows would have no bar.
        pieces = chop_cells(line, max(console.width - 4, 20)) if console.is_terminal else [line]
        for piece in pieces or [""]:
            _say(console, f"  │ {piece}", style)


def how(approval: Approval) -> str:
    """The commands that decide it."""
    number = approval.id
    match approval.kind:
        case "effect":
            always = f", pythonic approve {number} --always" if approval.standing is not None else ""
            return f'pythonic approve {number}{always}, or pythonic refuse {number} "why not"'
        case "unknown":
            return ", ".join(f"pythonic answer {number} {word}" for word in OUTCOMES)
        case "question":
            return f'pythonic answer {number} "your answer"'


def as_json(approval: Approval) -> Mapping[str, Any]:
    """As `--json` prints it, texts as they are in the database."""
    return {
        "id": approval.id,
        "task_id": approval.task_id,
        "kind": approval.kind,
        "question": approval.question,
        "action": approval.action,
        "risk": approval.risk,
        "preview": approval.preview,
        "choices": list(approval.choices) if approval.kind == "question" else _decisions(approval),
        "standing": approval.standing,
        "state": approval.state,
        "created_at": approval.created_at.isoformat(),
        "expires_at": approval.expires_at.isoformat(),
    }


def _decisions(approval: Approval) -> list[str]:
    return ["approve", "refuse"] if approval.kind == "effect" else list(OUTCOMES)


def read_decision(approval: Approval, typed: str) -> tuple[str, str | None, bool] | None:
    """Read what was typed as decision, answer and always; None when it is none of what is offered."""
    said = typed.strip()
    first, _, rest = said.partition(" ")
    match approval.kind:
        case "effect":
            if first.lower() in ("y", "yes"):
                return "approve", None, False
            if first.lower() == "always" and approval.standing is not None:
                return "approve", None, True
            return ("refuse", rest.strip() or None, False) if first.lower() in ("n", "no") else None
        case "unknown":
            return (said, None, False) if said in OUTCOMES else None
        case "question":
            if approval.choices and said.isdecimal() and 1 <= int(said) <= len(approval.choices):
                return "answer", approval.choices[int(said) - 1], False
            allowed = said in approval.choices if approval.choices else bool(said)
            return ("answer", said, False) if allowed else None


def offered(approval: Approval) -> str:
    """What can be typed."""
    match approval.kind:
        case "effect":
            always = ""
            if approval.standing is not None:
                always = f", always = y and from now on without asking: {rule_words(approval.standing)[0]}"
            return f"y = do it, n [why] = do not{always}"
        case "unknown":
            return ", ".join(f"{word} = {label}" for word, label in OUTCOMES.items())
        case "question":
            return "the number of an answer" if approval.choices else "your answer"


class Deciding:
    """Beside a task that is followed: shows what waits, asks where somebody sits, says what was decided.

    Args:
        asks: whether somebody sits at the terminal; else the commands are told.
    """

    def __init__(self, approvals: Approvals, console: Console, *, asks: bool) -> None:
        self._approvals = approvals
        self._console = console
        self._asks = asks
        self._waiting: dict[int, Approval] = {}
        self._asking: tuple[int, asyncio.Task[None]] | None = None

    async def look(self, task: Mapping[str, Any]) -> None:
        """Compare with the database; called whenever there may be something new of the task."""
        if task["state"] != "waiting" and not self._waiting:
            return
        now = {one.id: one for one in await self._approvals.of_tasks([int(task["id"])])}
        for number in [number for number in self._waiting if not now[number].pending]:
            del self._waiting[number]
            await self._stop_asking(number)
            decided = now[number].decided_at or datetime.now(UTC)
            self._say(f"[{number}] {settled_words(now[number])}, {decided.astimezone(UTC):%H:%M:%S} UTC")
        for one in now.values():
            if one.pending and one.id not in self._waiting:
                self._waiting[one.id] = one
                print_approval(self._console, one)
                if not self._asks:
                    self._say(f"  {how(one)}")
        if self._asks and self._asking is None and self._waiting:
            first = next(iter(self._waiting.values()))
            self._asking = first.id, asyncio.create_task(self._ask(first), name="ask-person")

    async def close(self) -> None:
        """Ask nothing more."""
        if self._asking is not None:
            await self._stop_asking(self._asking[0])

    async def _stop_asking(self, number: int) -> None:
        if self._asking is None or self._asking[0] != number:
            return
        task = self._asking[1]
        self._asking = None
        if task is not asyncio.current_task() and not task.done():
            task.cancel()
            await asyncio.wait({task})
            self._say("")

    async def _ask(self, approval: Approval) -> None:
        # What was typed before this was shown was not meant for it.
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        self._say(f"  {offered(approval)}")
        while True:
            self._console.print("> ", end="")
            typed = await read_line()
            decision = read_decision(approval, typed) if typed is not None else None
            if typed is None:
                self._say(f"  Nobody is there any more. {how(approval)}")
                return
            if decision is None:
                self._say(f"  Not understood: {offered(approval)}")
                continue
            what, answer, always = decision
            try:
                await self._approvals.decide(approval.id, what, answer, always=always)
            except (InvalidInputError, StoreUnavailableError) as error:
                self._say(f"  {visible(str(error), line=True)}")
            else:
                return

    def _say(self, text: str) -> None:
        _say(self._console, text)


async def read_line() -> str | None:
    """The next line that is typed; None at the end. Unlike `input` it can be cancelled."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
        return sys.stdin.readline() or None
    finally:
        with contextlib.suppress(ValueError):
            loop.remove_reader(sys.stdin.fileno())
