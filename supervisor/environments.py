"""What each child may know: environments are built from nothing, never by leaving something out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pythonic_assistant.setting_limits import written
from pythonic_assistant.settings import Settings

# What programmes need to find their files, speak the person's language and reach the network.
_ORDINARY: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach the Supabase that is used, embedded or not.

    Attributes:
        url: of its API.
        publishable_key: for everybody.
        secret_key: for the worker alone.
        database_url: of PostgreSQL itself, for the direct queue.
        local_user: e-mail and password of the person at this machine; embedded only.
    """

    url: str
    publishable_key: str
    secret_key: str
    database_url: str | None = None
    local_user: tuple[str, str] | None = None


def base(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """What every child gets: nothing secret."""
    chosen = {name: environ[name] for name in _ORDINARY if name in environ}
    return chosen | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "NO_COLOR": "1",
        "PYTHONIC_HOME": str(settings.home),
    }


def of_worker(environ: Mapping[str, str], settings: Settings, access: Access) -> dict[str, str]:
    """The worker's: the secret key and the model's key, and what it runs with."""
    chosen = base(environ, settings) | {
        "SUPABASE_URL": access.url,
        "SUPABASE_PUBLISHABLE_KEY": access.publishable_key,
        "SUPABASE_SECRET_KEY": access.secret_key,
        "PYTHONIC_API_PORT": str(settings.api_port),
        "PYTHONIC_CODE_FORMAT": settings.code_format,
        "PYTHONIC_SLOTS": str(settings.slots),
        "PYTHONIC_SANDBOX": settings.sandbox,
        "PYTHONIC_LIMITS": written(settings.limits, settings.spending),
        "PYTHONIC_LABELS": ",".join(settings.labels),
        "PYTHONIC_PRIVATE_HOSTS": settings.private_hosts,
    }
    if settings.secrets_key is not None:
        chosen["PYTHONIC_SECRETS_KEY"] = settings.secrets_key.reveal()
    if settings.smtp_url is not None:
        chosen["PYTHONIC_SMTP_URL"] = settings.smtp_url.reveal()
        chosen["PYTHONIC_MAIL_FROM"] = settings.mail_from
        chosen["PYTHONIC_MAIL_TO"] = settings.mail_to
    if access.database_url is not None:
        chosen["SUPABASE_DB_URL"] = access.database_url
    if settings.openai_api_key is not None:
        chosen["OPENAI_API_KEY"] = settings.openai_api_key.reveal()
    if settings.openai_base_url is not None:
        chosen["OPENAI_BASE_URL"] = settings.openai_base_url
    if settings.model is not None:
        chosen["PYTHONIC_MODEL"] = settings.model
    return chosen


def of_page(environ: Mapping[str, str], settings: Settings, access: Access) -> dict[str, str]:
    """The page's: what a browser may know, and at most the local user of the embedded Supabase."""
    chosen = base(environ, settings) | {
        "SUPABASE_URL": access.url,
        "SUPABASE_PUBLISHABLE_KEY": access.publishable_key,
        "PYTHONIC_PAGE_PORT": str(settings.page_port),
    }
    if access.local_user is not None:
        chosen["PYTHONIC_EMAIL"], chosen["PYTHONIC_PASSWORD"] = access.local_user
    return chosen
