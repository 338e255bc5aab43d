"""Who the command line acts as: the person of the settings, or the local user of the embedded Supabase."""

from __future__ import annotations

import json
from dataclasses import dataclass

from supabase import AsyncClient, AsyncClientOptions, acreate_client
from supabase_auth.errors import AuthError, AuthRetryableError

from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.domain.errors import ConfigurationError, StoreUnavailableError
from pythonic_assistant.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where to sign in, and as whom. `repr` shows no secret."""

    url: str
    publishable_key: str
    email: str
    password: str

    def __repr__(self) -> str:
        return f"Account({self.email!r} at {self.url!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A client with a person's token."""

    client: AsyncClient
    url: str
    publishable_key: str
    user_id: str

    async def token(self) -> str:
        """The person's access token, refreshed where it is about to end."""
        session = await self.client.auth.get_session()
        if session is None:
            raise ConfigurationError("The session has ended. Run the command again.")
        return session.access_token


def account_of(settings: Settings) -> Account:
    """Find the account.

    Raises:
        ConfigurationError: the embedded Supabase has never been started here, or a hosted one has no
            e-mail and password set.
    """
    if settings.embedded:
        keys = settings.home / "supabase" / "keys.json"
        try:
            found = json.loads(keys.read_text())
            return Account(
                url=f"http://127.0.0.1:{settings.supabase_port}",
                publishable_key=found["publishable_key"],
                email=found["local_user"]["email"],
                password=found["local_user"]["password"],
            )
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"Nothing has been started with the state folder {settings.home} yet. Run `make run` first."
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{keys} cannot be read ({type(error).__name__}). Stop the assistant and start it again."
            ) from error
    if settings.supabase_url is None or settings.supabase_publishable_key is None:
        raise ConfigurationError("Set SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY.")
    if settings.email is None or settings.password is None:
        raise ConfigurationError(
            "Set PYTHONIC_EMAIL and PYTHONIC_PASSWORD to the account that you use on the page."
        )
    return Account(
        url=settings.supabase_url,
        publishable_key=settings.supabase_publishable_key.reveal(),
        email=settings.email,
        password=settings.password.reveal(),
    )


async def sign_in(account: Account) -> SignedIn:
    """Sign in.

    Raises:
        ConfigurationError: Supabase refuses the e-mail or the password.
        StoreUnavailableError: Supabase does not answer.
    """
    client = await acreate_client(
        account.url, account.publishable_key, AsyncClientOptions(persist_session=False)
    )
    try:
        reply = await call(
            "sign in",
            client.auth.sign_in_with_password({"email": account.email, "password": account.password}),
        )
    except AuthRetryableError as error:
        raise StoreUnavailableError(
            f"Supabase at {account.url} does not answer. Is it running? `pythonic doctor` looks."
        ) from error
    except AuthError as error:
        raise ConfigurationError(f"Signing in as {account.email} was refused: {error.message}.") from error
    if reply.user is None:
        raise ConfigurationError(f"Signing in as {account.email} gave no user.")
    return SignedIn(
        client=client, url=account.url, publishable_key=account.publishable_key, user_id=reply.user.id
    )
