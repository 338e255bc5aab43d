"""What a person sets, from the environment or `.env`, checked once at start.

Only applications (the start command, the worker, the page, the command line) load settings; everything
below them is given plain values.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

from dotenv import dotenv_values

from pythonic_assistant.domain.errors import ConfigurationError
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.setting_limits import sandbox_limits, spending_limits
from pythonic_assistant.setting_values import (
    Secret,
    choice,
    database_url,
    email,
    exact_choice,
    labels,
    secret,
    shown,
    smtp_url,
    url,
    whole_number,
)

CodeFormat = Literal["auto", "custom", "function", "fence"]
SandboxChoice = Literal["auto", "namespaces", "bwrap", "landlock", "unsafe"]
Role = Literal["supervisor", "worker", "page", "command line"]

CODE_FORMATS: Final[tuple[CodeFormat, ...]] = ("auto", "custom", "function", "fence")
SANDBOX_CHOICES: Final[tuple[SandboxChoice, ...]] = ("auto", "namespaces", "bwrap", "landlock", "unsafe")
# OpenAI's default coding model in November 2026; used only when a key and no model is set.
DEFAULT_MODEL: Final = "gpt-6.1-sol"
# More slots than this on one worker is a typing mistake: each slot holds a sandbox of up to 1 GiB.
MAX_SLOTS: Final = 256

SETTING_NAMES: Final[tuple[str, ...]] = (
    "SUPABASE_URL",
    "SUPABASE_PUBLISHABLE_KEY",
    "SUPABASE_SECRET_KEY",
    "SUPABASE_DB_URL",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "PYTHONIC_MODEL",
    "PYTHONIC_CODE_FORMAT",
    "PYTHONIC_HOME",
    "PYTHONIC_PAGE_PORT",
    "PYTHONIC_API_PORT",
    "PYTHONIC_SUPABASE_PORT",
    "PYTHONIC_SLOTS",
    "PYTHONIC_LABELS",
    "PYTHONIC_SANDBOX",
    "PYTHONIC_LIMITS",
    "PYTHONIC_PRIVATE_HOSTS",
    "PYTHONIC_SECRETS_KEY",
    "PYTHONIC_SMTP_URL",
    "PYTHONIC_MAIL_FROM",
    "PYTHONIC_MAIL_TO",
    "PYTHONIC_EMAIL",
    "PYTHONIC_PASSWORD",
)
# The page faces the internet: it must not even know these.
_HIDDEN_FROM_PAGE: Final = frozenset(
    {
        "SUPABASE_SECRET_KEY",
        "SUPABASE_DB_URL",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "PYTHONIC_MODEL",
        "PYTHONIC_SECRETS_KEY",
        "PYTHONIC_SMTP_URL",
        "PYTHONIC_MAIL_FROM",
        "PYTHONIC_MAIL_TO",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, with its default.

    Attributes:
        supabase_url: of a hosted or self-hosted Supabase; None means the embedded one.
        supabase_publishable_key: what a browser may know.
        supabase_secret_key: passes row-level security; for the worker only.
        supabase_db_url: of PostgreSQL itself, for the direct queue.
        openai_api_key: of the model's server.
        openai_base_url: of the model's server; None means OpenAI's own.
        model: the model's name; None when no model is configured.
        code_format: how a model is asked for code.
        home: absolute path of the state folder.
        page_port: of the page.
        api_port: of the worker's HTTP API.
        supabase_port: of the embedded Supabase.
        slots: tasks that one worker runs at the same time.
        labels: what this worker offers to tasks that ask for a label.
        sandbox: how generated code is isolated; "unsafe" does not isolate, and is never chosen by "auto".
        limits: of every sandbox session, by default and at most.
        spending: what one task may spend, by default and at most, by the names of `Budget`.
        private_hosts: routes to hosts with private addresses that code may be allowed to reach, as written.
        secrets_key: opens people's secrets; None means each worker's own.
        smtp_url: of the mail server that rules send by; None: no e-mail is sent.
        mail_from: the sender of such e-mail.
        mail_to: addresses and @domains that rules may write to beside people's own, as written.
        email: who signs in at the command line; for the page, the local user of the embedded Supabase.
        password: of that person.
    """

    supabase_url: str | None = None
    supabase_publishable_key: Secret | None = None
    supabase_secret_key: Secret | None = None
    supabase_db_url: Secret | None = None
    openai_api_key: Secret | None = None
    openai_base_url: str | None = None
    model: str | None = None
    code_format: CodeFormat = "auto"
    home: Path = field(default_factory=lambda: default_home())
    page_port: int = 8501
    api_port: int = 8700
    supabase_port: int = 54321
    slots: int = 4
    labels: tuple[str, ...] = ()
    sandbox: SandboxChoice = "auto"
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    spending: Mapping[str, float] = field(default_factory=dict[str, float])
    private_hosts: str = ""
    secrets_key: Secret | None = None
    smtp_url: Secret | None = None
    mail_from: str = ""
    mail_to: str = ""
    email: str | None = None
    password: Secret | None = None

    @property
    def embedded(self) -> bool:
        """True when the embedded Supabase is to be used."""
        return self.supabase_url is None

    @property
    def model_configured(self) -> bool:
        """True when there is a server to ask; otherwise only the scripted demo answers."""
        return self.openai_api_key is not None or self.openai_base_url is not None


def load_settings(
    environ: Mapping[str, str], dotenv_path: Path | None, *, role: Role = "supervisor"
) -> Settings:
    """Read and check every setting.

    Args:
        environ: the process's environment; wins over the file.
        dotenv_path: of the `.env` file; one that is not there is no mistake. None reads no file, which is
            right for processes that the supervisor started.
        role: who asks. The page is given neither the secret key nor anything of the model.

    Raises:
        ConfigurationError: a name is unknown, a value impossible, or a group of settings incomplete.
    """
    values = _read_file(dotenv_path)
    _refuse_unknown((*values, *environ))
    values |= {name: _trimmed(name, environ[name]) for name in SETTING_NAMES if name in environ}
    hidden = _HIDDEN_FROM_PAGE if role == "page" else frozenset[str]()
    given = {name: value for name, value in values.items() if value and name not in hidden}

    _check_keys(given)
    _check_groups(given, role)
    model_configured = "OPENAI_API_KEY" in given or "OPENAI_BASE_URL" in given
    settings = Settings(
        supabase_url=url(given, "SUPABASE_URL", ("http", "https"), "https://abcdefgh.supabase.co"),
        supabase_publishable_key=secret(given, "SUPABASE_PUBLISHABLE_KEY"),
        supabase_secret_key=secret(given, "SUPABASE_SECRET_KEY"),
        supabase_db_url=database_url(given),
        openai_api_key=secret(given, "OPENAI_API_KEY"),
        openai_base_url=url(given, "OPENAI_BASE_URL", ("http", "https"), "http://127.0.0.1:11434/v1"),
        model=given.get("PYTHONIC_MODEL", DEFAULT_MODEL) if model_configured else None,
        code_format=choice(given, "PYTHONIC_CODE_FORMAT", CODE_FORMATS),
        home=_home(given),
        page_port=whole_number(given, "PYTHONIC_PAGE_PORT", 8501, 65535),
        api_port=whole_number(given, "PYTHONIC_API_PORT", 8700, 65535),
        supabase_port=whole_number(given, "PYTHONIC_SUPABASE_PORT", 54321, 65535),
        slots=whole_number(given, "PYTHONIC_SLOTS", 4, MAX_SLOTS),
        labels=labels(given),
        sandbox=exact_choice(given, "PYTHONIC_SANDBOX", SANDBOX_CHOICES, exact="unsafe"),
        limits=sandbox_limits(given),
        spending=spending_limits(given),
        private_hosts=given.get("PYTHONIC_PRIVATE_HOSTS", ""),
        secrets_key=secret(given, "PYTHONIC_SECRETS_KEY"),
        smtp_url=smtp_url(given),
        mail_from=given.get("PYTHONIC_MAIL_FROM", ""),
        mail_to=given.get("PYTHONIC_MAIL_TO", ""),
        email=email(given),
        password=secret(given, "PYTHONIC_PASSWORD"),
    )
    _check_ports(settings)
    return settings


def default_home() -> Path:
    """The state folder when none is set: `.pythonic` beside the project."""
    return Path(__file__).resolve().parent.parent / ".pythonic"


def _home(given: Mapping[str, str]) -> Path:
    value = given.get("PYTHONIC_HOME")
    if value is None:
        return default_home()
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"PYTHONIC_HOME is {value!r}, which names no folder: {error}.") from error
    if path.exists() and not path.is_dir():
        raise ConfigurationError(f"PYTHONIC_HOME is {value!r}, which is a file: name a folder.")
    return path if path.is_absolute() else default_home().parent / path


def _read_file(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    try:
        found = dotenv_values(path, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The settings file {path} cannot be read ({error}).") from error
    known = {name: _trimmed(name, value or "") for name, value in found.items()}
    _refuse_unknown(known)
    return {name: value for name, value in known.items() if name in SETTING_NAMES}


def _trimmed(name: str, value: str) -> str:
    """Take blanks off the ends; a word that must be written exactly keeps them, to be refused for them."""
    trimmed = value.strip()
    return value if name == "PYTHONIC_SANDBOX" and trimmed else trimmed


def _refuse_unknown(names: Sequence[str] | Mapping[str, str]) -> None:
    for name in names:
        if name.startswith("PYTHONIC_") and name not in SETTING_NAMES:
            ours = [
                known.removeprefix("PYTHONIC_") for known in SETTING_NAMES if known.startswith("PYTHONIC_")
            ]
            near = difflib.get_close_matches(name.removeprefix("PYTHONIC_"), ours, n=1)
            advice = (
                f"did you mean PYTHONIC_{near[0]}?"
                if near
                else "remove it; .env.example lists every setting."
            )
            raise ConfigurationError(f"{name} is not a setting: {advice}")


def _check_groups(given: Mapping[str, str], role: Role) -> None:
    """Refuse settings that mean nothing without others."""
    hosted = "SUPABASE_URL" in given
    for name in ("SUPABASE_PUBLISHABLE_KEY", "SUPABASE_SECRET_KEY", "SUPABASE_DB_URL"):
        if name in given and not hosted:
            raise ConfigurationError(
                f"{name} is set, but SUPABASE_URL is not: set SUPABASE_URL too, or remove {name} to use the "
                "embedded Supabase."
            )
    needed = {
        "supervisor": ("SUPABASE_PUBLISHABLE_KEY", "SUPABASE_SECRET_KEY"),
        "worker": ("SUPABASE_SECRET_KEY",),
        "page": ("SUPABASE_PUBLISHABLE_KEY",),
        "command line": ("SUPABASE_PUBLISHABLE_KEY",),
    }[role]
    for name in needed:
        if hosted and name not in given:
            raise ConfigurationError(
                f"SUPABASE_URL is {shown(given['SUPABASE_URL'])}, but {name} is not set: copy it from the "
                "project's settings, under API keys, in the Supabase dashboard."
            )
    model = given.get("PYTHONIC_MODEL")
    if "OPENAI_BASE_URL" in given and "OPENAI_API_KEY" not in given and model is None:
        raise ConfigurationError(
            f"OPENAI_BASE_URL is {shown(given['OPENAI_BASE_URL'])}, but PYTHONIC_MODEL is not set: set it "
            "to the name of a model that this server has."
        )
    if model is not None and "OPENAI_BASE_URL" not in given and "OPENAI_API_KEY" not in given:
        raise ConfigurationError(
            f"PYTHONIC_MODEL is {model!r}, but there is no server to ask: set OPENAI_API_KEY, or "
            "OPENAI_BASE_URL for a server of your own, or remove PYTHONIC_MODEL to see the demo."
        )
    for there, missing, why in (
        ("PYTHONIC_SMTP_URL", "PYTHONIC_MAIL_FROM", "the address that e-mail comes from"),
        ("PYTHONIC_MAIL_FROM", "PYTHONIC_SMTP_URL", "the mail server to send by"),
        ("PYTHONIC_MAIL_TO", "PYTHONIC_SMTP_URL", "the mail server to send by"),
    ):
        if there in given and missing not in given:
            raise ConfigurationError(
                f"{there} is set, but {missing} is not: set it to {why}, or remove {there}."
            )
    if ("PYTHONIC_EMAIL" in given) != ("PYTHONIC_PASSWORD" in given):
        there, missing = "PYTHONIC_EMAIL", "PYTHONIC_PASSWORD"
        if missing in given:
            there, missing = missing, there
        raise ConfigurationError(f"{there} is set, but {missing} is not: set both, or remove {there}.")


def _check_keys(given: Mapping[str, str]) -> None:
    """Refuse a secret key where everybody may read it, and the other way round."""
    publishable = given.get("SUPABASE_PUBLISHABLE_KEY", "")
    if publishable.startswith("sb_secret_") or _legacy_role(publishable) == "service_role":
        raise ConfigurationError(
            "SUPABASE_PUBLISHABLE_KEY holds a secret key, which the page must never have: put the key that "
            "begins with sb_publishable_ there."
        )
    service = given.get("SUPABASE_SECRET_KEY", "")
    if service.startswith("sb_publishable_") or _legacy_role(service) == "anon":
        raise ConfigurationError(
            "SUPABASE_SECRET_KEY holds a publishable key: put the key that begins with sb_secret_ there."
        )


def _legacy_role(key: str) -> str | None:
    """The role in one of Supabase's older keys, which are JSON Web Tokens; None for any other text."""
    parts = key.split(".")
    if len(parts) != 3:
        return None
    try:
        claims: object = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    role = cast("dict[str, object]", claims).get("role") if isinstance(claims, dict) else None
    return role if isinstance(role, str) else None


def _check_ports(settings: Settings) -> None:
    ports = {"PYTHONIC_PAGE_PORT": settings.page_port, "PYTHONIC_API_PORT": settings.api_port}
    if settings.embedded:
        ports["PYTHONIC_SUPABASE_PORT"] = settings.supabase_port
    taken: dict[int, str] = {}
    for name, port in ports.items():
        if port in taken:
            raise ConfigurationError(
                f"{taken[port]} and {name} are both {port}: give each a port of its own."
            )
        taken[port] = name
