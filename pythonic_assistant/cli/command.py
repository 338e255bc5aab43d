"""Arguments of the `pythonic` command, and which module does what."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pythonic_assistant import __version__
from pythonic_assistant.cli.rules_arguments import add_rules, run_rules
from pythonic_assistant.cli.schedule_arguments import add_schedules
from pythonic_assistant.domain.errors import AssistantError
from pythonic_assistant.settings import Settings, load_settings

USAGE_EXIT = 2
INTERRUPTED_EXIT = 130


def parser() -> argparse.ArgumentParser:
    """The arguments of every subcommand."""
    top = argparse.ArgumentParser(
        prog="pythonic", description="A Python assistant that people own: it proves its answers."
    )
    top.add_argument("--version", action="version", version=f"pythonic {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")

    commands.add_parser("up", help="start the embedded Supabase, the worker and the page")

    ask = commands.add_parser("ask", help="ask a task, follow it, print its answer")
    ask.add_argument("prompt", help="what to do, in your words")
    ask.add_argument(
        "--file", "-f", action="append", default=[], type=Path, metavar="PATH", help="a file to work on"
    )
    ask.add_argument("--model", help="a model other than the configured one; scripted-demo for the demo")
    ask.add_argument("--out", type=Path, metavar="FOLDER", help="where artifacts go (default: task-<id>)")
    ask.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="HOST",
        help="a host that its code may reach; again for another",
    )
    ask.add_argument(
        "--at",
        metavar="WHEN",
        help="begin then and do not wait for it, such as 'tomorrow 9:00' or 'in two hours'",
    )
    ask.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    following = commands.add_parser("follow", help="follow a task that was asked before, print its answer")
    following.add_argument("task", type=int, help="its number")
    following.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where artifacts go (default: task-<id>)"
    )
    following.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    _add_deciding(commands)

    cancel = commands.add_parser("cancel", help="cancel a task")
    cancel.add_argument("task", type=int, help="its number")

    secrets = commands.add_parser("secrets", help="what code may use without seeing it")
    doing = secrets.add_subparsers(dest="doing", required=True, metavar="list|set|remove")
    listing = doing.add_parser("list", help="show names, hosts and last use")
    setting = doing.add_parser("set", help="add or replace one; its value is asked for, or read from stdin")
    setting.add_argument("name", help="of the environment variable, such as GITHUB_TOKEN")
    setting.add_argument(
        "--host",
        action="append",
        required=True,
        metavar="HOST",
        help="a host that gets the value; again for another",
    )
    setting.add_argument("--raw", action="store_true", help="code gets the value itself, not a placeholder")
    removing = doing.add_parser("remove", help="remove one")
    removing.add_argument("name", help="as `secrets list` shows it")
    for each in (listing, setting, removing):
        each.add_argument("--json", action="store_true", help="print JSON instead of text")

    spending = commands.add_parser("spend", help="what your tasks cost, today and on the days before")
    spending.add_argument("--json", action="store_true", help="print JSON instead of text")

    add_rules(commands)
    add_schedules(commands)
    commands.add_parser("doctor", help="look at each part, its version and its state")
    sandbox = commands.add_parser("sandbox", help="what generated code finds in its sandbox")
    parts = sandbox.add_subparsers(dest="part", required=True, metavar="packages")
    packages = parts.add_parser(
        "packages", help="packages that code may import, beside those of this installation"
    )
    actions = packages.add_subparsers(dest="action", required=True, metavar="list|add|remove")
    actions.add_parser("list", help="show them")
    for action, text in (("add", "install them, wheels only"), ("remove", "take them away")):
        changing = actions.add_parser(action, help=text)
        changing.add_argument("names", nargs="+", metavar="NAME", help="such as tabulate or 'xlsxwriter>=3'")

    commands.add_parser("studio", help="print a link to the embedded database's table editor")
    return top


def _add_deciding(commands: Any) -> None:
    waiting = commands.add_parser("waiting", help="show what waits for your decision")
    waiting.add_argument("--json", action="store_true", help="print JSON instead of text")
    approve = commands.add_parser("approve", help="let an action be done that waits for you")
    approve.add_argument("number", type=int, help="as `waiting` shows it")
    approve.add_argument(
        "--always", action="store_true", help="and from now on without asking, see `waiting`"
    )
    refuse = commands.add_parser("refuse", help="refuse an action that waits for you")
    refuse.add_argument("number", type=int, help="as `waiting` shows it")
    refuse.add_argument("why", nargs="?", help="the assistant reads it")
    answer = commands.add_parser("answer", help="answer a question; or say happened, again or stop")
    answer.add_argument("number", type=int, help="as `waiting` shows it")
    answer.add_argument("text", help="your answer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. Mistakes are one sentence on stderr."""
    given = parser().parse_args(arguments)
    try:
        if given.command == "up":
            return _up()
        settings = load_settings(os.environ, Path.cwd() / ".env", role="command line")
        return asyncio.run(_run(given, settings))
    except AssistantError as error:
        print(f"pythonic: {error}", file=sys.stderr)  # noqa: T201
        return USAGE_EXIT
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT


async def _run(given: argparse.Namespace, settings: Settings) -> int:
    # Each command imports what it needs: the Supabase client alone takes 0.2 s.
    match given.command:
        case "ask":
            from pythonic_assistant.cli.ask import Question, ask

            return await ask(
                settings,
                Question(
                    prompt=given.prompt,
                    files=tuple(given.file),
                    model=given.model,
                    out=given.out,
                    as_json=given.json,
                    hosts=tuple(given.allow),
                    at=given.at,
                ),
            )
        case "secrets":
            from pythonic_assistant.cli.secrets import list_secrets, remove_secret, set_secret

            if given.doing == "set":
                return await set_secret(settings, given.name, given.host, raw=given.raw, as_json=given.json)
            if given.doing == "remove":
                return await remove_secret(settings, given.name, as_json=given.json)
            return await list_secrets(settings, as_json=given.json)
        case "follow":
            from pythonic_assistant.cli.ask import follow_task

            return await follow_task(settings, given.task, given.out, as_json=given.json)
        case "waiting" | "approve" | "refuse" | "answer":
            return await _decide(given, settings)
        case "rules":
            return await run_rules(given, settings)
        case "schedules":
            from pythonic_assistant.cli.schedules import schedules

            return await schedules(settings, given)
        case "cancel":
            from pythonic_assistant.cli.ask import cancel

            return await cancel(settings, given.task)
        case "spend":
            from pythonic_assistant.cli.spend import spend

            return await spend(settings, as_json=given.json)
        case "doctor":
            from pythonic_assistant.cli.doctor import doctor

            return await doctor(settings)
        case "sandbox":
            from pythonic_assistant.cli.packages import packages

            return await packages(settings, given.action, getattr(given, "names", []))
        case "studio":
            from pythonic_assistant.cli.studio import studio

            return await studio(settings)
        case _:
            raise AssertionError(given.command)


async def _decide(given: argparse.Namespace, settings: Settings) -> int:
    from pythonic_assistant.cli import waiting

    match given.command:
        case "approve":
            return await waiting.approve(settings, given.number, always=given.always)
        case "refuse":
            return await waiting.refuse(settings, given.number, given.why)
        case "answer":
            return await waiting.answer(settings, given.number, given.text)
        case _:
            return await waiting.list_waiting(settings, printed_as_json=given.json)


def _up() -> int:
    """Replace this process by the start command, so that signals reach it directly."""
    start = Path(__file__).resolve().parents[2] / "main.py"
    os.execv(sys.executable, [sys.executable, str(start)])  # noqa: S606
