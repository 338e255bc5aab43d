"""Signing people in and out with Supabase Auth."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from supabase_auth.errors import AuthApiError, AuthError, CustomAuthError
from supabase_auth.types import AuthResponse

from live.supabase_access import SupabaseAccess
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError

_NO_ANSWER = "The sign-in service does not answer: try again in a moment."
_SENTENCES = {
    "invalid_credentials": "The e-mail address or the password is wrong.",
    "email_not_confirmed": "Confirm your e-mail address first: open the link in the message to you.",
    "user_already_exists": "There is an account with this e-mail address: sign in instead.",
    "email_exists": "There is an account with this e-mail address: sign in instead.",
    "signup_disabled": "New accounts are switched off here: ask the person who runs this page.",
    "over_request_rate_limit": "Too many attempts: wait a minute and try again.",
    "over_email_send_rate_limit": "Too many messages were sent to this address: wait a while and try again.",
}

# With these Supabase Auth says that a refresh token is worth nothing any more. Everything else, such as 429,
# tells of the service and not of the session.
_ENDED = frozenset({400, 401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What Supabase Auth gave for a person. `expires_at` is the access token's end in Unix seconds."""

    user_id: str
    email: str
    access_token: str
    refresh_token: str
    expires_at: float


class Accounts:
    """Talks to Supabase Auth; keeps nothing."""

    def __init__(self, access: SupabaseAccess) -> None:
        self._access = access

    async def sign_in(self, email: str, password: str) -> Tokens:
        """Sign in with a password.

        Raises:
            InvalidInputError: wrong address or password, or an address that is not confirmed.
            StoreUnavailableError: no answer.
        """
        client = await self._access.client()
        with _in_words():
            response = await client.auth.sign_in_with_password({"email": email, "password": password})
        tokens = _tokens(response)
        if tokens is None:
            raise InvalidInputError("The sign-in gave no session: try again.")
        return tokens

    async def sign_up(self, email: str, password: str) -> Tokens | None:
        """Make an account. None: the person has to confirm the e-mail address first.

        Raises:
            InvalidInputError: the address is taken, or the password too weak.
            StoreUnavailableError: no answer.
        """
        client = await self._access.client()
        with _in_words():
            response = await client.auth.sign_up({"email": email, "password": password})
        return _tokens(response)

    async def refresh(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token, which works once, for new tokens.

        Raises:
            InvalidInputError: the refresh token is used up or revoked; the person must sign in again.
            StoreUnavailableError: no answer, or one that does not tell of the session.
        """
        client = await self._access.client()
        try:
            response = await client.auth.refresh_session(refresh_token)
        except AuthError as error:
            if _status(error) in _ENDED:
                raise InvalidInputError("The session has ended: sign in again.") from error
            raise StoreUnavailableError(_NO_ANSWER) from error
        tokens = _tokens(response)
        if tokens is None:
            raise InvalidInputError("The session has ended: sign in again.")
        return tokens

    async def sign_out(self, access_token: str) -> None:
        """Revoke the refresh tokens of this one session.

        Raises:
            StoreUnavailableError, InvalidInputError: it could not be revoked; the token still ends by itself.
        """
        client = await self._access.client(access_token)
        with _in_words():
            await client.auth.admin.sign_out(access_token, "local")


@contextmanager
def _in_words() -> Generator[None]:
    """Translate what Supabase Auth answers to a person who signs in, up or out."""
    try:
        yield
    except AuthError as error:
        if not 400 <= _status(error) < 500:
            raise StoreUnavailableError(_NO_ANSWER) from error
        known = _SENTENCES.get(str(error.code))
        if known is None and "invalid login credentials" in error.message.lower():
            known = _SENTENCES["invalid_credentials"]
        raise InvalidInputError(known or error.message) from error


def _status(error: AuthError) -> int:
    """The HTTP status of the answer; 0 without one, or with one that is not understood."""
    return error.status if isinstance(error, AuthApiError | CustomAuthError) else 0


def _tokens(response: AuthResponse) -> Tokens | None:
    session = response.session
    if session is None:
        return None
    expires_at = session.expires_at or int(time.time()) + session.expires_in
    return Tokens(
        user_id=session.user.id,
        email=session.user.email or "",
        access_token=session.access_token,
        refresh_token=session.refresh_token,
        expires_at=float(expires_at),
    )
