"""A task's events as lines in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from pythonic_assistant.cli.safe import safe


class Progress:
    """Prints each event that a person wants to see.

    Args:
        quiet: print nothing, for `--json`.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._titles: dict[str, str] = {}

    def asked(self, task_id: int) -> None:
        """The task is in the queue."""
        self._say(
            f"Task {task_id} is in the queue. It goes on if you leave; `pythonic cancel {task_id}` ends it."
        )

    def unreachable(self, reason: str) -> None:
        """The database does not answer."""
        self._console.print(f"{reason} Waiting for it; Ctrl-C leaves.", style="yellow", markup=False)

    def event(self, row: Mapping[str, Any]) -> None:
        """Print what is worth a line of a `task_events` row."""
        data: Mapping[str, Any] = row["data"]
        match row["kind"]:
            case "run_started":
                label = " (scripted demo, no AI)" if data["scripted"] else ""
                self._say(f"Attempt {row['attempt']}: {data['model']}{label}, sandbox: {data['sandbox']}")
            case "plan_made":
                for step in data["plan"]["steps"]:
                    self._titles[step["id"]] = step["title"]
                    self._say(f"  plan  {step['title']}")
            case "step_started":
                self._say(f"▸ {self._titles.get(data['step_id'], data['step_id'])}")
            case "step_restored":
                self._say(f"  restored  {self._titles.get(data['step_id'], data['step_id'])}")
            case "code_written":
                self._say("  code" if data["execution"] == 1 else f"  fix {data['execution'] - 1}")
            case "code_executed":
                if data["outcome"] == "ok":
                    self._say(f"  ran in {data['seconds']:.2f} s")
                else:
                    lines = [line for line in data["error"].splitlines() if line.strip()]
                    self._say(f"  {data['outcome']}: {lines[-1] if lines else ''}", style="yellow")
            case "check_executed":
                passed = data["outcome"] == "passed"
                self._say(f"  {'✓' if passed else '✗'} {data['check']}", style="green" if passed else "red")
            case "noted":
                self._say(f"  {data['text']}", style="yellow" if data["level"] == "warning" else None)
            case _:
                return

    def _say(self, text: str, style: str | None = None) -> None:
        if not self._quiet:
            self._console.print(safe(text), style=style, markup=False, highlight=False)
