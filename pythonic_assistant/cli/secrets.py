"""`pythonic secrets`: what code may use without seeing it. Values are sealed here, before they are sent."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pythonic_assistant.adapters.secrets.vault import seal
from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.cli.account import SignedIn, account_of, sign_in
from pythonic_assistant.cli.safe import safe
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.hosts import read_hosts
from pythonic_assistant.settings import Settings

_SHOWN = "name,hosts,raw,key_id,created_at,updated_at,last_used_at"


async def list_secrets(settings: Settings, *, as_json: bool) -> int:
    """Print names, hosts and last use; values cannot be read back."""
    person = await sign_in(account_of(settings))
    reply: Any = await call(
        "list the secrets", person.client.table("secrets").select(_SHOWN).order("name").execute()
    )
    rows: Sequence[Mapping[str, Any]] = reply.data
    if as_json:
        sys.stdout.write(json.dumps(list(rows), indent=2) + "\n")
        return 0
    if not rows:
        sys.stdout.write("No secrets. Add one: pythonic secrets set GITHUB_TOKEN --host api.github.com\n")
        return 0
    table = Table("name", "hosts", "value", "last used", box=None)
    for row in rows:
        table.add_row(
            safe(row["name"]),
            safe(", ".join(row["hosts"])),
            "given to code" if row["raw"] else "put in on the way out",
            safe(str(row["last_used_at"] or "never")[:16].replace("T", " ")),
        )
    Console().print(table)
    return 0


async def set_secret(settings: Settings, name: str, hosts: Sequence[str], *, raw: bool, as_json: bool) -> int:
    """Add or replace a secret; its value comes from a hidden prompt, or else from a pipe."""
    wanted = read_hosts(hosts)
    person = await sign_in(account_of(settings))
    key = await newest_key(person)
    ciphertext = seal(key["public_key"], _read_value(name))
    arguments = {
        "name": name,
        "hosts": list(wanted),
        "ciphertext": ciphertext,
        "key_id": key["key_id"],
        "raw": raw,
    }
    await call("keep the secret", person.client.rpc("set_secret", arguments).execute())
    _say(
        {"name": name, "hosts": list(wanted), "raw": raw},
        f"{name} is kept for {', '.join(wanted)}.",
        as_json=as_json,
    )
    if raw:
        sys.stderr.write(f"Code will get the value of {name} itself; without --raw it gets a placeholder.\n")
    return 0


async def remove_secret(settings: Settings, name: str, *, as_json: bool) -> int:
    """Remove a secret."""
    person = await sign_in(account_of(settings))
    reply: Any = await call(
        "remove the secret", person.client.table("secrets").delete().eq("name", name).select("name").execute()
    )
    if not reply.data:
        raise InvalidInputError(
            f"There is no secret {name!r}. `pythonic secrets list` shows those that there are."
        )
    _say({"name": name, "removed": True}, f"{name} is removed.", as_json=as_json)
    return 0


async def newest_key(person: SignedIn) -> Mapping[str, str]:
    """Return the row of `secret_keys` to seal to.

    Raises:
        InvalidInputError: no worker has started yet.
    """
    reply: Any = await call(
        "read the key for secrets",
        person.client.table("secret_keys")
        .select("key_id,public_key")
        .order("published_at", desc=True)
        .limit(1)
        .execute(),
    )
    if not reply.data:
        raise InvalidInputError(
            "No worker has started yet, so there is no key to seal secrets to. Start one first."
        )
    return reply.data[0]


def _read_value(name: str) -> str:
    """Never from the arguments: other programs and the shell's history would see it."""
    if sys.stdin.isatty():
        return getpass.getpass(f"Value of {name} (not shown): ")
    return sys.stdin.read().rstrip("\r\n")  # what `echo` adds; a key's inner lines stay


def _say(row: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    sys.stdout.write((json.dumps(row) if as_json else text) + "\n")
