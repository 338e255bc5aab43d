"""`pythonic rules`: what happens by itself when a task's state changes, and what became of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from pythonic_assistant.adapters.secrets.vault import seal
from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.cli.account import SignedIn, account_of, sign_in
from pythonic_assistant.cli.safe import safe
from pythonic_assistant.cli.secrets import newest_key
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.webhook import new_signing_secret
from pythonic_assistant.settings import Settings

_SHOWN = "id,name,pattern,action,target,secret,enabled,paused_because,created_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRule:
    """A rule as it was asked for; exactly one of `webhook`, `mail` and `prompt` is not None.

    Attributes:
        mail: an address, or "" for the person's own.
        secret: one that is there already; None makes a new one for a webhook.
    """

    name: str
    states: Sequence[str] = ()
    verdicts: Sequence[str] = ()
    assistants: Sequence[str] = ()
    labels: Sequence[str] = ()
    webhook: str | None = None
    mail: str | None = None
    prompt: str | None = None
    same_thread: bool = False
    secret: str | None = None

    @property
    def pattern(self) -> dict[str, list[str]]:
        """Of the row; all that is not named is not looked at, and without anything it is failures."""
        parts = {
            "states": self.states,
            "verdicts": self.verdicts,
            "assistants": self.assistants,
            "labels": self.labels,
        }
        given = {name: list(values) for name, values in parts.items() if values}
        return given if {"states", "verdicts"} & given.keys() else given | {"states": ["failed"]}


async def list_rules(settings: Settings, *, as_json: bool) -> int:
    """Print every rule."""
    person = await sign_in(account_of(settings))
    rows = await _rules(person)
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return 0
    if not rows:
        sys.stdout.write("No rules. Add one: pythonic rules add 'Tell me' --state failed --email\n")
        return 0
    table = Table("name", "when", "then", "state", box=None)
    for row in rows:
        table.add_row(safe(row["name"]), safe(_when(row["pattern"])), safe(_then(row)), safe(_state(row)))
    Console().print(table)
    if any(row["action"] == "email" and row["enabled"] for row in rows):
        await _say_what_mail_lacks(person, None)
    return 0


async def add_rule(settings: Settings, wanted: WantedRule, *, as_json: bool) -> int:
    """Add a rule; a webhook's new secret is shown once."""
    person = await sign_in(account_of(settings))
    row: dict[str, Any] = {"name": wanted.name, "pattern": wanted.pattern}
    made = None
    if wanted.webhook is not None:
        secret = wanted.secret
        if secret is None:
            secret, made = await _new_secret(person, wanted.name, wanted.webhook)
        row |= {"action": "webhook", "target": {"url": wanted.webhook}, "secret": secret}
    elif wanted.prompt is not None:
        target: dict[str, Any] = {"prompt": wanted.prompt}
        row |= {"action": "task", "target": target | ({"same_thread": True} if wanted.same_thread else {})}
    else:
        row |= {"action": "email", "target": {"to": wanted.mail} if wanted.mail else {}}
    try:
        reply: Any = await call("add the rule", person.client.table("event_rules").insert(row).execute())
    except InvalidInputError:
        if made is not None:
            await call(
                "take the secret back",
                person.client.table("secrets").delete().eq("name", row["secret"]).select("name").execute(),
            )
        raise
    told = {"id": reply.data[0]["id"], **row} | ({"signing_secret": made} if made else {})
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.write(f"{safe(wanted.name)} is added.\n")
        if made:
            sys.stdout.write(f"Its signing secret, shown this once, for the receiver: {made}\n")
    if row["action"] == "email":
        await _say_what_mail_lacks(person, row["target"].get("to"))
    return 0


async def switch_rule(settings: Settings, name: str, *, on: bool, as_json: bool) -> int:
    """Pause a rule, or let it go on."""
    person = await sign_in(account_of(settings))
    row = await _rule(person, name)
    query = person.client.table("event_rules").update({"enabled": on}).eq("id", row["id"])
    await call("change the rule", query.execute())
    _say({"name": row["name"], "enabled": on}, f"{row['name']} {'goes on' if on else 'is paused'}.", as_json)
    return 0


async def remove_rule(settings: Settings, name: str, *, as_json: bool) -> int:
    """Remove a rule with its deliveries."""
    person = await sign_in(account_of(settings))
    row = await _rule(person, name)
    await call("remove the rule", person.client.table("event_rules").delete().eq("id", row["id"]).execute())
    _say({"name": row["name"], "removed": True}, f"{row['name']} is removed.", as_json)
    return 0


async def test_rule(settings: Settings, name: str, *, as_json: bool) -> int:
    """Deliver a made-up event by a rule, now."""
    person = await sign_in(account_of(settings))
    row = await _rule(person, name)
    reply: Any = await call("try the rule", person.client.rpc("test_rule", {"rule": row["id"]}).execute())
    _say(
        {"name": row["name"], "delivery": reply.data},
        f"A test of {row['name']} is on its way: `pythonic rules deliveries` shows what becomes of it.",
        as_json,
    )
    return 0


async def list_deliveries(settings: Settings, *, dead: bool, most: int, as_json: bool) -> int:
    """Print the newest deliveries, or the dead letters among them."""
    person = await sign_in(account_of(settings))
    columns = "id,state,event,task_id,tries,next_try_at,last_error,response_status,made_task_id,created_at"
    query = person.client.table("deliveries").select(f"{columns},event_rules(name)")
    if dead:
        query = query.eq("state", "dead")
    reply: Any = await call("list the deliveries", query.order("created_at", desc=True).limit(most).execute())
    rows: list[dict[str, Any]] = reply.data
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return 0
    if not rows:
        sys.stdout.write("No dead letters.\n" if dead else "Nothing was delivered yet.\n")
        return 0
    table = Table("id", "rule", "event", "task", "state", "why", box=None)
    for row in rows:
        table.add_row(
            row["id"][:8],
            safe(row["event_rules"]["name"]),
            row["event"],
            str(row["task_id"] or ""),
            f"{row['state']}, {row['tries']} tried" if row["tries"] else row["state"],
            safe(row["last_error"] or (f"task {row['made_task_id']}" if row["made_task_id"] else "")),
        )
    Console().print(table)
    return 0


async def resend(settings: Settings, delivery: str, *, as_json: bool) -> int:
    """Send a delivery again, or every dead letter when `delivery` is "dead"."""
    person = await sign_in(account_of(settings))
    if not re.fullmatch(r"dead|[0-9a-f-]{4,36}", delivery):
        raise InvalidInputError(f"{delivery[:50]!r} is no delivery: `pythonic rules deliveries` shows them.")
    reply: Any = await call(
        "list the deliveries",
        person.client.table("deliveries")
        .select("id,state")
        .order("created_at", desc=True)
        .limit(1000)
        .execute(),
    )
    rows: list[dict[str, Any]] = reply.data
    chosen = [row["id"] for row in rows if row["id"].startswith(delivery)]
    if delivery == "dead":
        chosen = [row["id"] for row in rows if row["state"] == "dead"]
    elif len(chosen) != 1:
        raise InvalidInputError(
            f"{'More than one delivery begins' if chosen else 'No delivery begins'} with {delivery!r}: "
            "`pythonic rules deliveries` shows them."
        )
    for each in chosen:
        await call("send it again", person.client.rpc("resend_delivery", {"delivery": each}).execute())
    _say(
        {"resent": chosen}, f"{len(chosen)} sent again." if chosen else "There are no dead letters.", as_json
    )
    return 0


async def _rules(person: SignedIn) -> list[dict[str, Any]]:
    query = person.client.table("event_rules").select(_SHOWN).order("created_at")
    reply: Any = await call("list the rules", query.execute())
    return reply.data


async def _rule(person: SignedIn, name: str) -> dict[str, Any]:
    for row in await _rules(person):
        if row["name"].lower() == name.strip().lower():
            return row
    raise InvalidInputError(f"There is no rule {name!r}. `pythonic rules list` shows those that there are.")


async def _new_secret(person: SignedIn, name: str, url: str) -> tuple[str, str]:
    """Keep a new signing secret for the webhook's host; returns its name and its value."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    key = await newest_key(person)
    value = new_signing_secret()
    secret = secret_name(name)
    taken = person.client.table("secrets").select("name").eq("name", secret)
    if (await call("look for the secret", taken.execute())).data:
        raise InvalidInputError(f"There is a secret {secret} already: use it with --secret {secret}.")
    arguments = {
        "name": secret,
        "hosts": [host],
        "ciphertext": seal(key["public_key"], value),
        "key_id": key["key_id"],
        "raw": False,
    }
    try:
        await call("keep the secret", person.client.rpc("set_secret", arguments).execute())
    except InvalidInputError as error:
        if not host or not url.startswith("https://"):
            raise InvalidInputError(
                "The address of a webhook begins with https:// and a host's name, such as "
                "https://hooks.example.org/tasks."
            ) from error
        raise
    return secret, value


def secret_name(rule: str) -> str:
    """The name of the secret that is made for a rule."""
    letters = re.sub(r"[^A-Z0-9]+", "_", rule.upper()).strip("_")
    return f"WEBHOOK_{letters}"[:64].rstrip("_")


async def _say_what_mail_lacks(person: SignedIn, address: str | None) -> None:
    reply: Any = await call(
        "ask about e-mail", person.client.rpc("mail_problem", {"address": address}).execute()
    )
    if reply.data:
        sys.stderr.write(f"{reply.data}\n")


def _when(pattern: Mapping[str, Sequence[str]]) -> str:
    parts = [f"{name}: {', '.join(values)}" for name, values in sorted(pattern.items())]
    return "; ".join(parts) or "every change"


def _then(row: Mapping[str, Any]) -> str:
    target: Mapping[str, Any] = row["target"]
    match row["action"]:
        case "webhook":
            return f"webhook {target['url']}"
        case "email":
            return f"e-mail to {target.get('to', 'your own address')}"
        case _:
            return f"task: {target['prompt']}"


def _state(row: Mapping[str, Any]) -> str:
    return "on" if row["enabled"] else f"paused. {row['paused_because'] or ''}".strip()


def _say(row: Mapping[str, Any], text: str, as_json: bool) -> None:
    sys.stdout.write((json.dumps(row) if as_json else safe(text)) + "\n")
