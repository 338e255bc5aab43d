"""A person's rules and what became of their deliveries: listed, made, changed, tried, sent again."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlsplit

from live.rows import maybe_time
from live.secret_desk import SecretDesk
from live.supabase_access import SupabaseAccess
from pythonic_assistant.adapters.store.calls import in_words
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.webhook import new_signing_secret

Json = Mapping[str, Any]

_RULES = "id,name,pattern,action,target,secret,enabled,paused_because,by_default"
_DELIVERIES = (
    "id,rule_id,state,event,task_id,tries,next_try_at,last_error,response_status,made_task_id,created_at,"
    "finished_at"
)
DELIVERIES_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRow:
    """A rule. Fields as in the table `event_rules`; `dead` counts its dead letters."""

    id: str
    name: str
    action: str
    pattern: Json
    target: Json
    secret: str | None
    enabled: bool
    paused_because: str | None
    by_default: bool
    dead: int = 0

    @property
    def states(self) -> tuple[str, ...]:
        """Those of the pattern; none where any will do."""
        return tuple(str(state) for state in self.pattern.get("states", ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """A delivery. Fields as in the table `deliveries`."""

    id: str
    rule_id: str
    state: str
    event: str
    task_id: int | None
    tries: int
    last_error: str | None
    response_status: int | None
    made_task_id: int | None
    next_try_at: datetime | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRule:
    """A rule as a person filled it in. `target` without what is empty."""

    name: str
    action: str
    target: Json
    pattern: Json = field(default_factory=dict[str, Any])


class RuleDesk:
    """What a person can do with their rules. Every method raises what `in_words` and the token do."""

    def __init__(
        self, access: SupabaseAccess, token: Callable[[], Awaitable[str]], secrets: SecretDesk
    ) -> None:
        self._access = access
        self._token = token
        self._secrets = secrets

    async def rules(self) -> tuple[RuleRow, ...]:
        """All of them, the oldest first, each with the number of its dead letters."""
        client = await self._access.client(await self._token())
        with in_words("read the rules"):
            found = await client.table("event_rules").select(_RULES).order("created_at").execute()
            dead = (
                await client.table("deliveries").select("rule_id").eq("state", "dead").limit(1000).execute()
            )
        letters = [str(row["rule_id"]) for row in _rows(dead.data)]
        return tuple(_rule(row, letters.count(str(row["id"]))) for row in _rows(found.data))

    async def deliveries(self, rule_id: str, *, dead: bool) -> tuple[DeliveryRow, ...]:
        """The newest of a rule, or of its dead letters."""
        client = await self._access.client(await self._token())
        with in_words("read the deliveries"):
            query = client.table("deliveries").select(_DELIVERIES).eq("rule_id", rule_id)
            query = query.eq("state", "dead") if dead else query
            found = await query.order("created_at", desc=True).limit(DELIVERIES_SHOWN).execute()
        return tuple(_delivery(row) for row in _rows(found.data))

    async def mail_problem(self, address: str | None) -> str:
        """What is missing before an e-mail can be sent; "" when nothing is."""
        client = await self._access.client(await self._token())
        with in_words("ask about e-mail"):
            found = await client.rpc("mail_problem", {"address": address}).execute()
        return str(found.data or "")

    async def add(self, wanted: WantedRule) -> str:
        """Add a rule; returns the secret that signs a new webhook, which nobody can read again, or ""."""
        row: dict[str, Any] = {
            "name": wanted.name,
            "action": wanted.action,
            "pattern": dict(wanted.pattern),
            "target": dict(wanted.target),
        }
        made = ""
        if wanted.action == "webhook":
            row["secret"], made = await self._new_secret(wanted)
        client = await self._access.client(await self._token())
        try:
            with in_words("add the rule"):
                await client.table("event_rules").insert(row).execute()
        except InvalidInputError:
            if made:
                await self._forget(str(row["secret"]))
            raise
        return made

    async def change(self, rule_id: str, wanted: WantedRule) -> None:
        """Give a rule another name, pattern and target; its action and its secret stay."""
        row = {"name": wanted.name, "pattern": dict(wanted.pattern), "target": dict(wanted.target)}
        await self._update("change the rule", rule_id, row)

    async def switch(self, rule_id: str, *, on: bool) -> None:
        """Pause a rule, or let it go on."""
        await self._update("change the rule", rule_id, {"enabled": on})

    async def remove(self, rule_id: str) -> None:
        """Delete a rule with its deliveries."""
        client = await self._access.client(await self._token())
        with in_words("remove the rule"):
            await client.table("event_rules").delete().eq("id", rule_id).execute()

    async def try_now(self, rule_id: str) -> None:
        """Deliver a made-up event."""
        client = await self._access.client(await self._token())
        with in_words("try the rule"):
            await client.rpc("test_rule", {"rule": rule_id}).execute()

    async def resend(self, delivery_id: str) -> None:
        """Send a delivery again."""
        client = await self._access.client(await self._token())
        with in_words("send it again"):
            await client.rpc("resend_delivery", {"delivery": delivery_id}).execute()

    async def _update(self, what: str, rule_id: str, row: dict[str, Any]) -> None:
        client = await self._access.client(await self._token())
        with in_words(what):
            changed = await client.table("event_rules").update(row).eq("id", rule_id).execute()
        if not _rows(changed.data):
            raise InvalidInputError("This rule is gone: somebody removed it meanwhile.")

    async def _new_secret(self, wanted: WantedRule) -> tuple[str, str]:
        url = str(wanted.target.get("url", ""))
        host = _host(url)
        if not url.startswith("https://") or not host:
            raise InvalidInputError(
                "The address of a webhook begins with https:// and a host's name, such as "
                "https://hooks.example.org/tasks."
            )
        letters = re.sub(r"[^A-Z0-9]+", "_", wanted.name.upper()).strip("_")
        name = f"WEBHOOK_{letters}"[:64].rstrip("_")
        if any(secret.name == name for secret in await self._secrets.secrets()):
            raise InvalidInputError(f"There is a secret {name} already: give the rule another name.")
        value = new_signing_secret()
        await self._secrets.save(name, [host], value, raw=False)
        return name, value

    async def _forget(self, name: str) -> None:
        for secret in await self._secrets.secrets():
            if secret.name == name:
                await self._secrets.remove(secret.id)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _rule(row: Json, dead: int) -> RuleRow:
    return RuleRow(
        id=str(row["id"]),
        name=str(row["name"]),
        action=str(row["action"]),
        pattern=cast("Json", row["pattern"]),
        target=cast("Json", row["target"]),
        secret=row.get("secret"),
        enabled=bool(row["enabled"]),
        paused_because=row.get("paused_because"),
        by_default=bool(row.get("by_default")),
        dead=dead,
    )


def _delivery(row: Json) -> DeliveryRow:
    return DeliveryRow(
        id=str(row["id"]),
        rule_id=str(row["rule_id"]),
        state=str(row["state"]),
        event=str(row["event"]),
        task_id=row.get("task_id"),
        tries=int(row["tries"]),
        last_error=row.get("last_error"),
        response_status=row.get("response_status"),
        made_task_id=row.get("made_task_id"),
        next_try_at=maybe_time(row.get("next_try_at")),
        created_at=maybe_time(row.get("created_at")),
    )


def _rows(data: Any) -> Sequence[Json]:
    return cast("Sequence[Json]", data) if isinstance(data, list) else []
