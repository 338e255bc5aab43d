"""The arguments of `pythonic schedules`."""

from __future__ import annotations

from typing import Any

MISSED = {"skip": "skip", "catch-up-once": "catch_up_once"}
"""What is typed, and what the database calls it."""


def add_schedules(commands: Any) -> None:
    """Add `schedules` to the subcommands of an `ArgumentParser`."""
    top = commands.add_parser("schedules", help="tasks that come again")
    doing = top.add_subparsers(dest="doing", required=True, metavar="list|add|pause|resume|run|remove")
    listing = doing.add_parser("list", help="show them with their next times")
    adding = doing.add_parser("add", help="add one; what was understood is shown before it is saved")
    adding.add_argument("when", help="in words, such as 'every weekday at 8', or as cron")
    adding.add_argument("prompt", help="what to do each time, in your words")
    adding.add_argument("--name", default="", help="shown in lists (default: from the prompt)")
    adding.add_argument("--zone", metavar="ZONE", help="a time zone (default: this machine's)")
    adding.add_argument(
        "--missed", choices=sorted(MISSED), default="skip", help="runs that no worker could start in time"
    )
    adding.add_argument("--model", help="a model other than the configured one; scripted-demo for the demo")
    adding.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="HOST",
        help="a host that its code may reach; again for another",
    )
    adding.add_argument("--label", action="append", default=[], metavar="LABEL", help="workers must have it")
    adding.add_argument("--yes", "-y", action="store_true", help="save without asking")
    each = [listing, adding]
    for word, text in (
        ("pause", "let it make no tasks"),
        ("resume", "let it make tasks again"),
        ("run", "make a task of it now"),
        ("remove", "remove it; its tasks stay"),
    ):
        one = doing.add_parser(word, help=text)
        one.add_argument("schedule", help="its name, or the beginning of its id")
        each.append(one)
    for one in each:
        one.add_argument("--json", action="store_true", help="print JSON instead of text")
