"""The secrets of one grant: which host gets which, what no other may get, what answers must not show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from pythonic_assistant.adapters.egress.refusal import RefusedError
from pythonic_assistant.domain.redaction import SHORTEST, Redactor, spellings
from pythonic_assistant.domain.secret import BoundSecret


class Vault:
    """Secrets, told apart by host.

    Attributes:
        redactor: replaces every value by its placeholder.
        words: every spelling of every value.
        placeholders: every spelling of what stands for them.
    """

    def __init__(self, secrets: Sequence[BoundSecret]) -> None:
        self._secrets = tuple(secrets)
        self._watches = {
            secret.name: Redactor({secret.value: secret.name, secret.placeholder: secret.name})
            for secret in secrets
        }
        self.redactor: Final = Redactor({secret.value: secret.placeholder for secret in secrets})
        self._foreign_words: dict[str, frozenset[bytes]] = {}  # by host; only allowed hosts come here
        self.words: Final = _words(secret.value for secret in secrets)
        self.placeholders: Final = _words(secret.placeholder for secret in secrets)

    def __bool__(self) -> bool:
        """Whether there is any secret."""
        return bool(self._secrets)

    def of(self, host: str) -> tuple[BoundSecret, ...]:
        """Those that this host may see and that code does not hold itself."""
        return tuple(secret for secret in self._secrets if host in secret.hosts and not secret.raw)

    def foreign(self, host: str) -> tuple[BoundSecret, ...]:
        """Those that this host must not see."""
        return tuple(secret for secret in self._secrets if host not in secret.hosts)

    def foreign_words(self, host: str) -> frozenset[bytes]:
        """What `refuse_foreign` looks for, in every spelling."""
        if host not in self._foreign_words:
            foreign = self.foreign(host)
            self._foreign_words[host] = _words(
                text for secret in foreign for text in (secret.value, secret.placeholder)
            )
        return self._foreign_words[host]

    def named_in(self, host: str, data: bytes) -> tuple[str, ...]:
        """Names of the host's own secrets that are in there, as values or placeholders."""
        return tuple(
            secret.name
            for secret in self._secrets
            if host in secret.hosts and self._watches[secret.name].found_in(data)
        )

    def refuse_foreign(self, host: str, data: bytes) -> None:
        """Look for secrets of other hosts, and their placeholders, in a part of a request.

        Raises:
            RefusedError: there is one.
        """
        foreign = self.foreign(host)
        if not foreign:
            return
        decoded = unquote_to_bytes(data) if b"%" in data else data
        words = self.foreign_words(host)
        # Ten times as fast as the expressions below, which say whose it is.
        if not any(word in data or (decoded is not data and word in decoded) for word in words):
            return
        for secret in foreign:
            watch = self._watches[secret.name]
            if watch.found_in(data) or (decoded is not data and watch.found_in(decoded)):
                raise RefusedError(
                    f"The secret {secret.name} is not for {host}: it may be sent to "
                    f"{', '.join(secret.hosts) or 'no host'} only."
                )


def _words(texts: Iterable[str]) -> frozenset[bytes]:
    return frozenset(word.encode() for text in texts if len(text) >= SHORTEST for word in spellings(text))
