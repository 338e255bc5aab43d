"""Who is signed in: an opaque cookie on the browser's side, tokens on ours alone."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, cast

from live.accounts import Tokens
from pythonic_assistant.domain.errors import InvalidInputError, MistakeError, StoreUnavailableError

logger = logging.getLogger(__name__)

COOKIE = "pa_sid"
# OWASP's session cheat sheet: both an idle and an absolute end. Long, because losing a watch over a running
# task is the commoner harm here; a person can sign out at any time.
IDLE_SECONDS = 7 * 86_400.0
ABSOLUTE_SECONDS = 30 * 86_400.0
TICKET_SECONDS = 30.0
# Refreshed this long before the access token ends, so that a request never meets an expired one.
_EARLY_SECONDS = 60.0


class SessionEndedError(MistakeError):
    """The person has to sign in again."""


class Refresher(Protocol):
    """The part of `Accounts` that sessions need."""

    async def refresh(self, refresh_token: str) -> Tokens: ...

    async def sign_out(self, access_token: str) -> None: ...


class Storage(Protocol):
    """Keeps one JSON value between starts."""

    def load(self) -> Any: ...

    def save(self, value: Any) -> None: ...


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One signed-in browser. `key` is the digest of its cookie; times are Unix seconds."""

    key: str
    tokens: Tokens
    opened_at: float
    seen_at: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def user_id(self) -> str:
        """The person's id in auth.users."""
        return self.tokens.user_id


class SessionBook:
    """All sessions of this page. Changed on the event loop only; `find` may be called from any thread."""

    def __init__(self, accounts: Refresher, storage: Storage, now: Callable[[], float] = time.time) -> None:
        self._accounts = accounts
        self._storage = storage
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._tickets: dict[str, tuple[str, float]] = {}
        self._saving = asyncio.Lock()
        self._closed_callbacks: list[Callable[[Session], None]] = []

    def on_closed(self, callback: Callable[[Session], None]) -> None:
        """Call this with every session that ends, so that its sockets can be closed."""
        self._closed_callbacks.append(callback)

    def forget_callback(self, callback: Callable[[Session], None]) -> None:
        """Stop calling it."""
        if callback in self._closed_callbacks:
            self._closed_callbacks.remove(callback)

    async def restore(self) -> None:
        """Take up the sessions that were saved before the last stop, without those of another version."""
        saved: Any = await asyncio.to_thread(self._storage.load)
        if not isinstance(saved, list):
            return
        for entry in cast("list[Mapping[str, Any]]", saved):
            try:
                session = Session(
                    key=str(entry["key"]),
                    tokens=Tokens(**entry["tokens"]),
                    opened_at=float(entry["opened_at"]),
                    seen_at=float(entry["seen_at"]),
                )
            except (KeyError, TypeError, ValueError) as error:
                # Only the kind of error: its words may hold what was saved.
                logger.warning(
                    "a saved session cannot be read: its browser has to sign in again (%s)",
                    type(error).__name__,
                    extra={"action": "restore_sessions"},
                )
                continue
            if not self._expired(session):
                self._sessions[session.key] = session

    async def save(self) -> None:
        """Write all sessions; a folder that cannot be written costs a new sign-in after a restart."""
        async with self._saving:
            value = [
                {
                    "key": s.key,
                    "tokens": asdict(s.tokens),
                    "opened_at": s.opened_at,
                    "seen_at": s.seen_at,
                }
                for s in self._sessions.values()
            ]
            try:
                await asyncio.to_thread(self._storage.save, value)
            except OSError as error:
                logger.warning("sessions not saved", extra={"action": "save_sessions", "error": str(error)})

    async def open(self, tokens: Tokens) -> str:
        """Begin a session; returns a ticket that can be changed once, within 30 s, for its cookie."""
        self._sweep()
        cookie = secrets.token_urlsafe(32)
        now = self._now()
        session = Session(key=_digest(cookie), tokens=tokens, opened_at=now, seen_at=now)
        self._sessions[session.key] = session
        ticket = secrets.token_urlsafe(32)
        self._tickets[ticket] = (cookie, now + TICKET_SECONDS)
        await self.save()
        return ticket

    def claim(self, ticket: str) -> str | None:
        """Change a ticket for its cookie. None: unknown, used, or too late."""
        cookie, until = self._tickets.pop(ticket, ("", 0.0))
        return cookie if cookie and self._now() <= until else None

    def find(self, cookie: str | None) -> Session | None:
        """The session of a cookie, unless it has ended."""
        if not cookie:
            return None
        session = self._sessions.get(_digest(cookie))
        if session is None or self._expired(session):
            return None
        session.seen_at = self._now()
        return session

    def alive(self, session: Session) -> bool:
        """Whether the session has not ended."""
        return self._sessions.get(session.key) is session and not self._expired(session)

    def of_user(self, user_id: str) -> Session | None:
        """Any session of a person: the one whose token lasts longest."""
        own = [s for s in self._sessions.values() if s.user_id == user_id and not self._expired(s)]
        return max(own, key=lambda s: s.tokens.expires_at, default=None)

    async def token(self, session: Session) -> str:
        """An access token that is good for the next minute; refreshed by one caller at a time.

        Raises:
            SessionEndedError: the session is over.
            StoreUnavailableError: the token has ended and the sign-in service does not answer.
        """
        if not self.alive(session):
            raise SessionEndedError("The session has ended: sign in again.")
        if session.tokens.expires_at - self._now() > _EARLY_SECONDS:
            return session.tokens.access_token
        async with session.lock:
            left = session.tokens.expires_at - self._now()
            if left > _EARLY_SECONDS:
                return session.tokens.access_token
            try:
                session.tokens = await self._accounts.refresh(session.tokens.refresh_token)
            except StoreUnavailableError:
                if left > 0:
                    return session.tokens.access_token
                raise
            except InvalidInputError as error:
                self._remove(session)
                await self.save()
                raise SessionEndedError("The session has ended: sign in again.") from error
        await self.save()
        return session.tokens.access_token

    async def close(self, session: Session) -> None:
        """End a session here at once, and at Supabase if it answers."""
        self._remove(session)
        await self.save()
        try:
            await self._accounts.sign_out(session.tokens.access_token)
        except (InvalidInputError, StoreUnavailableError) as error:
            logger.info("sign-out not confirmed", extra={"action": "sign_out", "error": str(error)})

    def _remove(self, session: Session) -> None:
        if self._sessions.pop(session.key, None) is not None:
            for callback in tuple(self._closed_callbacks):
                callback(session)

    def _sweep(self) -> None:
        now = self._now()
        self._tickets = {t: entry for t, entry in self._tickets.items() if entry[1] >= now}
        for session in [s for s in self._sessions.values() if self._expired(s)]:
            self._remove(session)

    def _expired(self, session: Session) -> bool:
        now = self._now()
        return now - session.seen_at > IDLE_SECONDS or now - session.opened_at > ABSOLUTE_SECONDS


def _digest(cookie: str) -> str:
    """What is kept of a cookie: enough to recognise it, not enough to be it."""
    return hashlib.sha256(cookie.encode()).hexdigest()
