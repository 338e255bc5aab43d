"""The arguments of `pythonic rules`, and what they call."""

from __future__ import annotations

import argparse
from typing import Any

from pythonic_assistant.settings import Settings


def add_rules(commands: Any) -> None:
    """Add the subcommand; `commands` is what `add_subparsers` gave."""
    rules = commands.add_parser("rules", help="what happens by itself when a task's state changes")
    doing = rules.add_subparsers(dest="doing", required=True, metavar="list|add|pause|…")
    every = [doing.add_parser("list", help="show them")]

    adding = doing.add_parser("add", help="add one: a webhook, an e-mail, or a new task")
    adding.add_argument("name", help="to know it by")
    for word, text in (
        ("state", "a state that a task comes to, such as failed (the default); again for another"),
        ("verdict", "a verdict that it has then"),
        ("assistant", "the identifier of its assistant"),
        ("label", "a label that it has"),
    ):
        adding.add_argument(f"--{word}", action="append", default=[], metavar=word.upper(), help=text)
    action = adding.add_mutually_exclusive_group(required=True)
    action.add_argument("--webhook", metavar="URL", help="post it there, signed")
    action.add_argument("--email", nargs="?", const="", metavar="TO", help="write to you, or to an address")
    action.add_argument(
        "--task",
        metavar="PROMPT",
        help="start a task; {prompt}, {answer}, {state}, {task_id} and {error} are filled in",
    )
    adding.add_argument("--secret", metavar="NAME", help="sign with this secret instead of a new one")
    adding.add_argument("--same-thread", action="store_true", help="the new task goes on in the same thread")
    every.append(adding)

    for word, text in (
        ("pause", "pause one"),
        ("resume", "let a paused one go on"),
        ("test", "try one now, with a made-up event"),
        ("remove", "remove one with its deliveries"),
    ):
        naming = doing.add_parser(word, help=text)
        naming.add_argument("name", help="as `rules list` shows it")
        every.append(naming)

    listing = doing.add_parser("deliveries", help="show what was delivered, and what was not")
    listing.add_argument("--dead", action="store_true", help="only those that were given up")
    listing.add_argument("--most", type=int, default=50, metavar="NUMBER", help="show so many (default: 50)")
    every.append(listing)
    resending = doing.add_parser("resend", help="send one again, under its own id")
    resending.add_argument("delivery", help="the beginning of its id, or the word dead: all dead letters")
    every.append(resending)
    for each in every:
        each.add_argument("--json", action="store_true", help="print JSON instead of text")


async def run_rules(given: argparse.Namespace, settings: Settings) -> int:
    """Do what the arguments say; returns the exit code."""
    from pythonic_assistant.cli import rules

    match given.doing:
        case "add":
            wanted = rules.WantedRule(
                name=given.name,
                states=given.state,
                verdicts=given.verdict,
                assistants=given.assistant,
                labels=given.label,
                webhook=given.webhook,
                mail=given.email,
                prompt=given.task,
                same_thread=given.same_thread,
                secret=given.secret,
            )
            return await rules.add_rule(settings, wanted, as_json=given.json)
        case "pause" | "resume":
            on = given.doing == "resume"
            return await rules.switch_rule(settings, given.name, on=on, as_json=given.json)
        case "test":
            return await rules.test_rule(settings, given.name, as_json=given.json)
        case "remove":
            return await rules.remove_rule(settings, given.name, as_json=given.json)
        case "deliveries":
            most = max(1, min(given.most, 1000))
            return await rules.list_deliveries(settings, dead=given.dead, most=most, as_json=given.json)
        case "resend":
            return await rules.resend(settings, given.delivery, as_json=given.json)
        case _:
            return await rules.list_rules(settings, as_json=given.json)
