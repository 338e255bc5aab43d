"""What the code of one attempt may reach: hosts and secrets. All of it ends with the attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pythonic_assistant.adapters.secrets.keyring import WorkerKey
from pythonic_assistant.adapters.store.supabase_secrets import SealedSecret
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError
from pythonic_assistant.domain.event import EgressRequested, Event, Noted
from pythonic_assistant.domain.hosts import read_host
from pythonic_assistant.domain.redaction import Redactor
from pythonic_assistant.domain.secret import BoundSecret, placeholder_of
from pythonic_assistant.ports import EffectLedger
from pythonic_assistant.wire import EgressGrant, TimedEvent

log = logging.getLogger(__name__)


class Granted(Protocol):
    """A grant of the broker."""

    @property
    def token(self) -> str:
        """What entitles a runner to it."""
        ...

    @property
    def certificate(self) -> str:
        """PEM of the authority that sessions shall trust."""
        ...

    @property
    def socket(self) -> Path:
        """Where the broker listens."""
        ...


class Broker(Protocol):
    """Where runners hand over the listening sockets of their sessions."""

    def grant(
        self,
        *,
        hosts: Sequence[str],
        secrets: Sequence[BoundSecret],
        report: Callable[[EgressRequested], None],
        ledger: EffectLedger,
    ) -> Granted:
        """Allow one attempt to reach hosts; each request is reported once, when it ends.

        What may change something is written into the ledger before it is sent.
        """
        ...

    async def revoke(self, token: str) -> None:
        """End a grant and every connection of it. A token that is not known is no mistake."""
        ...


class SecretStore(Protocol):
    """Sealed secrets. Every method raises `StoreUnavailableError`."""

    async def of_person(self, user_id: str) -> tuple[SealedSecret, ...]:
        """Return a person's secrets."""
        ...

    async def used(self, ids: Sequence[str]) -> None:
        """Note that requests carried these secrets."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a worker needs to give code access."""

    store: SecretStore
    key: WorkerKey
    broker: Broker


class TaskAccess:
    """The access of one attempt.

    Attributes:
        hosts: that code may reach.
        secrets: that code may use, opened.
        grant: for the runner; None when nothing is reachable.
    """

    def __init__(self, means: Means, put: Callable[[TimedEvent], None], ledger: EffectLedger) -> None:
        """Report through `put`; what changes something goes through the ledger."""
        self._means = means
        self._put = put
        self._ledger = ledger
        self._ids: dict[str, str] = {}
        self._used: set[str] = set()
        self.hosts: tuple[str, ...] = ()
        self.secrets: tuple[BoundSecret, ...] = ()
        self.grant: EgressGrant | None = None

    async def open(self, user_id: str, hosts: Sequence[str]) -> None:
        """Read the secrets that belong to the hosts, and ask the broker for a way out.

        Raises:
            StoreUnavailableError: the database does not answer.
            InvalidInputError: a host is none.
        """
        wanted = tuple(dict.fromkeys(read_host(host) for host in hosts))
        if not wanted:
            return
        self.hosts = wanted
        sealed = await self._means.store.of_person(user_id)
        self.secrets = tuple(
            bound
            for secret in sealed
            if not set(wanted).isdisjoint(secret.hosts) and (bound := self._opened(secret)) is not None
        )
        granted = self._means.broker.grant(
            hosts=wanted, secrets=self.secrets, report=self._report, ledger=self._ledger
        )
        self.grant = EgressGrant(socket=granted.socket, token=granted.token, certificate=granted.certificate)

    async def close(self) -> None:
        """Revoke the grant, whose last requests are then reported, and note which secrets were used."""
        grant, self.grant = self.grant, None
        if grant is not None:
            await self._means.broker.revoke(grant.token)
        used, self._used = self._used, set()
        ids = [self._ids[name] for name in sorted(used) if name in self._ids]
        if ids:
            try:
                await self._means.store.used(ids)
            except (StoreUnavailableError, InvalidInputError) as error:
                log.warning("use of secrets not noted", extra={"action": "secret_used", "reason": str(error)})

    @property
    def environment(self) -> dict[str, str]:
        """For the session: placeholders, and the values of raw secrets."""
        return {secret.name: secret.value if secret.raw else secret.placeholder for secret in self.secrets}

    @property
    def raw(self) -> tuple[str, ...]:
        """Names in `environment` whose values are in the clear."""
        return tuple(secret.name for secret in self.secrets if secret.raw)

    @property
    def redactor(self) -> Redactor:
        """Puts placeholders where values were."""
        return Redactor({secret.value: secret.placeholder for secret in self.secrets})

    def _opened(self, secret: SealedSecret) -> BoundSecret | None:
        if secret.key_id != self._means.key.key_id:
            self._warn(
                f"The secret {secret.name} is sealed to the key of another worker, so this task does without "
                "it: enter it again, or give this worker that key in PYTHONIC_SECRETS_KEY."
            )
            return None
        try:
            value = self._means.key.open(secret.ciphertext)
        except InvalidInputError as error:
            self._warn(f"The secret {secret.name} cannot be used: {error} Enter it again.")
            return None
        if secret.raw:
            self._warn(
                f"Code gets the value of {secret.name} itself, as its owner chose. It is cut out of answers, "
                "logs and files where it can be recognised."
            )
        self._ids[secret.name] = secret.id
        return BoundSecret(
            name=secret.name,
            value=value,
            hosts=secret.hosts,
            placeholder=placeholder_of(secret.name),
            raw=secret.raw,
        )

    def _report(self, event: EgressRequested) -> None:
        self._used.update(event.secrets)
        self._tell(event)

    def _warn(self, text: str) -> None:
        self._tell(Noted(text=text, level="warning"))

    def _tell(self, event: Event) -> None:
        self._put(TimedEvent(at=datetime.now(UTC), event=event))
