"""Settings: what is accepted, what is refused, and that nothing secret is ever shown."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path

import pytest

from pythonic_assistant.domain.errors import ConfigurationError
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.setting_limits import written
from pythonic_assistant.settings import DEFAULT_MODEL, SETTING_NAMES, Secret, Settings, load_settings

PROJECT = Path(__file__).resolve().parents[2]
HOSTED = {
    "SUPABASE_URL": "https://abcdefgh.supabase.co",
    "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_x",
    "SUPABASE_SECRET_KEY": "sb_secret_hush",
}


def refusal(**environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ, None)
    return str(caught.value)


def legacy_key(role: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"role": role}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{claims}.c2lnbmF0dXJl"


def test_nothing_set_gives_the_embedded_supabase_and_no_model() -> None:
    settings = load_settings({}, None)
    assert settings == Settings()
    assert settings.embedded
    assert not settings.model_configured
    assert settings.model is None
    assert settings.home == PROJECT / ".pythonic"
    assert (settings.page_port, settings.api_port, settings.supabase_port) == (8501, 8700, 54321)


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("PYTHONIC_SLOTS=2\nPYTHONIC_PAGE_PORT=9001\nexport OTHER=${PYTHONIC_SLOTS}\n")
    settings = load_settings({"PYTHONIC_SLOTS": " 8 "}, file)
    assert settings.slots == 8
    assert settings.page_port == 9001


def test_an_empty_value_in_the_environment_switches_off_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("OPENAI_API_KEY=sk-file\n")
    assert load_settings({}, file).model == DEFAULT_MODEL
    assert load_settings({"OPENAI_API_KEY": ""}, file).model is None


def test_a_dollar_in_a_password_is_kept(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("PYTHONIC_EMAIL=me@example.org\nPYTHONIC_PASSWORD='pa${HOME}ss'\n")
    assert load_settings({}, file).password == Secret("pa${HOME}ss")


def test_a_missing_file_is_no_mistake(tmp_path: Path) -> None:
    assert load_settings({}, tmp_path / ".env") == Settings()


def test_a_hosted_supabase() -> None:
    settings = load_settings({**HOSTED, "SUPABASE_URL": "https://abcdefgh.supabase.co/"}, None)
    assert not settings.embedded
    assert settings.supabase_url == "https://abcdefgh.supabase.co"
    assert settings.supabase_secret_key == Secret("sb_secret_hush")


@pytest.mark.parametrize(
    ("environ", "model", "configured"),
    [
        ({"OPENAI_API_KEY": "sk-1"}, DEFAULT_MODEL, True),
        ({"OPENAI_API_KEY": "sk-1", "PYTHONIC_MODEL": "gpt-6-luna"}, "gpt-6-luna", True),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1", "PYTHONIC_MODEL": "qwen"}, "qwen", True),
        ({}, None, False),
    ],
)
def test_which_model_is_asked(environ: dict[str, str], model: str | None, configured: bool) -> None:
    settings = load_settings(environ, None)
    assert (settings.model, settings.model_configured) == (model, configured)


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({"PYTHONIC_SLOT": "2"}, ["PYTHONIC_SLOT ", "did you mean PYTHONIC_SLOTS?"]),
        ({"PYTHONIC_XYZZY": "1"}, ["PYTHONIC_XYZZY", ".env.example"]),
        ({"PYTHONIC_PAGE_PORT": "0"}, ["PYTHONIC_PAGE_PORT", "'0'", "1 to 65535"]),
        ({"PYTHONIC_PAGE_PORT": "65536"}, ["PYTHONIC_PAGE_PORT", "'65536'"]),
        ({"PYTHONIC_API_PORT": "http"}, ["PYTHONIC_API_PORT", "'http'"]),
        ({"PYTHONIC_API_PORT": "8501"}, ["PYTHONIC_PAGE_PORT", "PYTHONIC_API_PORT", "8501"]),
        ({"PYTHONIC_SUPABASE_PORT": "8700"}, ["PYTHONIC_API_PORT", "PYTHONIC_SUPABASE_PORT", "8700"]),
        ({"PYTHONIC_SLOTS": "0"}, ["PYTHONIC_SLOTS", "'0'"]),
        ({"PYTHONIC_SLOTS": "1e3"}, ["PYTHONIC_SLOTS", "'1e3'"]),
        ({"PYTHONIC_LABELS": "gpu,My Box"}, ["PYTHONIC_LABELS", "gpu,berlin"]),
        ({"PYTHONIC_SANDBOX": "docker"}, ["PYTHONIC_SANDBOX", "'docker'", "namespaces"]),
        ({"PYTHONIC_SANDBOX": "UNSAFE"}, ["'UNSAFE'", "exactly unsafe", "better, write auto"]),
        ({"PYTHONIC_SANDBOX": "unsafe "}, ["'unsafe '", "exactly unsafe", "without blanks"]),
        ({"PYTHONIC_SANDBOX": "unsafe-none"}, ["'unsafe-none'", "auto, namespaces"]),
        ({"PYTHONIC_LIMITS": "memory=-1"}, ["'memory=-1'", "memory=512MiB"]),
        ({"PYTHONIC_LIMITS": "memory=2GB"}, ["'memory=2GB'", "KiB, MiB or GiB"]),
        ({"PYTHONIC_LIMITS": "memory=1MiB"}, ["'memory=1MiB'", "at least 32MiB", "memory=1GiB"]),
        ({"PYTHONIC_LIMITS": "memory=9999999GiB"}, ["write less", "memory=1GiB"]),
        ({"PYTHONIC_LIMITS": "memory="}, ["'memory='", "memory=512MiB"]),
        ({"PYTHONIC_LIMITS": "memory"}, ["'memory'", "name=value"]),
        ({"PYTHONIC_LIMITS": "ram=1GiB"}, ["no limit 'ram'", "memory, disk, processes"]),
        ({"PYTHONIC_LIMITS": "cpu=0"}, ["'cpu=0'", "at least 1"]),
        ({"PYTHONIC_LIMITS": "cpu=ten"}, ["'cpu=ten'", "whole seconds"]),
        ({"PYTHONIC_LIMITS": "processes=1.5"}, ["'processes=1.5'", "a whole number"]),
        ({"PYTHONIC_LIMITS": "cost=free"}, ["'cost=free'", "US dollars", "cost=2.50"]),
        ({"PYTHONIC_LIMITS": "tokens=10"}, ["'tokens=10'", "at least 1000"]),
        ({"PYTHONIC_LIMITS": "disk=1GiB, disk=2GiB"}, ["disk is named twice"]),
        ({"PYTHONIC_CODE_FORMAT": "json"}, ["PYTHONIC_CODE_FORMAT", "'json'", "fence"]),
        ({**HOSTED, "SUPABASE_URL": "abcdefgh"}, ["SUPABASE_URL", "'abcdefgh'", "https://"]),
        ({**HOSTED, "SUPABASE_URL": "https://h:99999"}, ["SUPABASE_URL", "99999"]),
        ({"SUPABASE_URL": "https://a.supabase.co"}, ["SUPABASE_PUBLISHABLE_KEY", "API keys"]),
        ({"SUPABASE_SECRET_KEY": "sb_secret_hush"}, ["SUPABASE_SECRET_KEY", "SUPABASE_URL"]),
        ({**HOSTED, "SUPABASE_DB_URL": "mysql://u:hush@h/x"}, ["SUPABASE_DB_URL", "postgresql://"]),
        ({**HOSTED, "SUPABASE_PUBLISHABLE_KEY": "sb_secret_hush"}, ["SUPABASE_PUBLISHABLE_KEY", "never"]),
        ({**HOSTED, "SUPABASE_PUBLISHABLE_KEY": legacy_key("service_role")}, ["never have"]),
        ({**HOSTED, "SUPABASE_SECRET_KEY": "sb_publishable_x"}, ["SUPABASE_SECRET_KEY", "sb_secret_"]),
        ({"OPENAI_API_KEY": "sk hush"}, ["OPENAI_API_KEY", "one line"]),
        ({"OPENAI_BASE_URL": "http://u:hush@h/v1"}, ["PYTHONIC_MODEL", "OPENAI_BASE_URL"]),
        ({"OPENAI_BASE_URL": "ftp://h", "PYTHONIC_MODEL": "m"}, ["OPENAI_BASE_URL", "'ftp://h'"]),
        ({"PYTHONIC_MODEL": "m"}, ["PYTHONIC_MODEL", "OPENAI_API_KEY"]),
        ({"PYTHONIC_EMAIL": "me@example.org"}, ["PYTHONIC_PASSWORD"]),
        ({"PYTHONIC_EMAIL": "me", "PYTHONIC_PASSWORD": "hush"}, ["PYTHONIC_EMAIL", "'me'"]),
        ({"PYTHONIC_HOME": __file__}, ["PYTHONIC_HOME", "is a file"]),
        ({"PYTHONIC_HOME": "~nobody-has-this-name/x"}, ["PYTHONIC_HOME", "no folder"]),
    ],
)
def test_mistakes_are_named_with_what_to_write_instead(environ: dict[str, str], parts: list[str]) -> None:
    sentence = refusal(**environ)
    assert all(part in sentence for part in parts), sentence
    assert "hush" not in sentence, "a secret is shown"


def test_unknown_names_in_the_file_are_refused_too(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("PYTHONIC_PORT=1\n")
    with pytest.raises(ConfigurationError, match="PYTHONIC_PORT is not a setting"):
        load_settings({}, file)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"PYTHONIC_HOME=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings({}, file)


def test_the_page_is_never_given_more_than_it_may_know() -> None:
    everything = {**HOSTED, "OPENAI_API_KEY": "sk-1", "SUPABASE_DB_URL": "postgres://u:p@h/x"}
    settings = load_settings(everything, None, role="page")
    assert settings.supabase_publishable_key == Secret("sb_publishable_x")
    assert settings.supabase_secret_key is None
    assert settings.supabase_db_url is None
    assert settings.openai_api_key is None
    assert not settings.model_configured


def test_each_role_needs_only_its_own_keys() -> None:
    url, publishable, secret = HOSTED.items()
    assert load_settings(dict([url, publishable]), None, role="page").supabase_url == url[1]
    assert load_settings(dict([url, publishable]), None, role="command line").supabase_url == url[1]
    assert load_settings(dict([url, secret]), None, role="worker").supabase_url == url[1]
    with pytest.raises(ConfigurationError, match="SUPABASE_SECRET_KEY is not set"):
        load_settings(dict([url, publishable]), None, role="worker")


@pytest.mark.parametrize(
    "url", ["postgresql://u:p@h:5432/postgres", "postgres://h/x", "postgresql:///postgres?host=/run/x"]
)
def test_addresses_of_databases(url: str) -> None:
    assert load_settings({**HOSTED, "SUPABASE_DB_URL": url}, None).supabase_db_url == Secret(url)


def test_labels_and_a_relative_home() -> None:
    settings = load_settings({"PYTHONIC_LABELS": "gpu, berlin,gpu", "PYTHONIC_HOME": "state"}, None)
    assert settings.labels == ("gpu", "berlin")
    assert settings.home == PROJECT / "state"
    with pytest.raises(ConfigurationError, match="9 names: write at most 8"):
        load_settings({"PYTHONIC_LABELS": "a,b,c,d,e,f,g,h,i"}, None)


def test_secrets_are_masked_wherever_they_are_printed() -> None:
    settings = load_settings({**HOSTED, "OPENAI_API_KEY": "sk-hush"}, None)
    for text in (repr(settings), str(settings), f"{settings.openai_api_key}", f"{settings.openai_api_key!r}"):
        assert "hush" not in text
    assert settings.openai_api_key is not None
    assert settings.openai_api_key.reveal() == "sk-hush"


def test_settings_their_names_and_the_example_file_are_in_step() -> None:
    example = re.findall(r"^#? ?([A-Z][A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(example) == sorted(SETTING_NAMES)
    fields = {field.name.upper() for field in dataclasses.fields(Settings)}
    fields -= {"SPENDING"}  # the other half of PYTHONIC_LIMITS
    assert {name.removeprefix("PYTHONIC_") for name in SETTING_NAMES} == fields


def test_the_example_file_as_it_is_changes_nothing() -> None:
    assert load_settings({}, PROJECT / ".env.example") == Settings()


def test_documents_name_only_settings_that_exist() -> None:
    documents = [PROJECT / ".env.example", *PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]
    for document in documents:
        named = set(re.findall(r"\bPYTHONIC_[A-Z_]*[A-Z]\b", document.read_text(encoding="utf-8")))
        assert named <= set(SETTING_NAMES), f"{document.name} names {sorted(named - set(SETTING_NAMES))}"


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", SandboxLimits()),
        ("memory=2GiB", SandboxLimits(memory_bytes=2 << 30)),
        (" disk = 1.5 GiB ,, output=64KiB", SandboxLimits(disk_bytes=3 << 29, output_bytes=64 << 10)),
        ("memory=67108864,open_files=32", SandboxLimits(memory_bytes=64 << 20, open_files=32)),
        ("processes=128, cpu=60, inodes=16", SandboxLimits(processes=128, cpu_seconds=60, inodes=16)),
    ],
)
def test_limits_are_read_and_written_alike(text: str, limits: SandboxLimits) -> None:
    assert load_settings({"PYTHONIC_LIMITS": text}, None).limits == limits
    assert load_settings({"PYTHONIC_LIMITS": written(limits, {})}, None).limits == limits


def test_what_one_task_may_spend_is_a_limit_too() -> None:
    settings = load_settings({"PYTHONIC_LIMITS": "cost=2.50, memory=2GiB, tokens=200000"}, None)
    assert settings.spending == {"cost": 2.5, "tokens": 200_000}
    assert settings.limits == SandboxLimits(memory_bytes=2 << 30)
    again = load_settings({"PYTHONIC_LIMITS": written(settings.limits, settings.spending)}, None)
    assert again == settings
    assert load_settings({}, None).spending == {}


def test_blanks_around_a_tier_other_than_unsafe_are_no_mistake(tmp_path: Path) -> None:
    assert load_settings({"PYTHONIC_SANDBOX": " landlock "}, None).sandbox == "landlock"
    assert load_settings({"PYTHONIC_SANDBOX": "  "}, None).sandbox == "auto"
    assert load_settings({"PYTHONIC_SANDBOX": "unsafe"}, None).sandbox == "unsafe"
    file = tmp_path / ".env"
    file.write_text("PYTHONIC_SANDBOX=' unsafe'\n")
    with pytest.raises(ConfigurationError, match="exactly unsafe"):
        load_settings({}, file)


def test_the_limits_of_the_example_file_are_the_defaults() -> None:
    line = re.search(r"^# PYTHONIC_LIMITS=(.*)$", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    assert line is not None
    assert load_settings({"PYTHONIC_LIMITS": line[1]}, None).limits == SandboxLimits()
    assert line[1].count("=") == len(dataclasses.fields(SandboxLimits))
