"""What a worker refuses to start with."""

from __future__ import annotations

import pytest

from pythonic_assistant.domain.errors import ConfigurationError
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.settings import load_settings
from supervisor.environments import Access, of_page, of_worker
from worker.__main__ import config_of

SUPABASE = {"SUPABASE_URL": "https://x.supabase.co", "SUPABASE_SECRET_KEY": "sb_secret_canary"}


def test_the_model_is_what_the_settings_say_and_keys_do_not_show() -> None:
    given = {**SUPABASE, "OPENAI_BASE_URL": "http://127.0.0.1:11434/v1", "PYTHONIC_MODEL": "qwen"}
    config = config_of(load_settings(given, None, role="worker"))
    assert config.model is not None
    assert (config.model.model, config.model.base_url, config.model.api_key) == (
        "qwen",
        "http://127.0.0.1:11434/v1",
        "",
    )
    assert "canary" not in repr(config)


def test_the_key_for_secrets_is_the_workers_alone_and_does_not_show() -> None:
    given = {**SUPABASE, "PYTHONIC_SECRETS_KEY": "canary-key", "PYTHONIC_PRIVATE_HOSTS": "git.example.org"}
    settings = load_settings(given, None, role="worker")
    config = config_of(settings)
    assert (config.secrets_key, config.private_hosts) == ("canary-key", "git.example.org")
    assert "canary" not in repr(config) + repr(settings)
    page = {**given, "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_x"}
    assert load_settings(page, None, role="page").secrets_key is None
    access = Access(url="http://x", publishable_key="p", secret_key="s")
    assert of_worker({}, settings, access)["PYTHONIC_SECRETS_KEY"] == "canary-key"
    assert of_worker({}, settings, access)["PYTHONIC_PRIVATE_HOSTS"] == "git.example.org"
    assert "canary" not in str(of_page(given, settings, access))


def test_without_a_model_there_is_only_the_demo() -> None:
    assert config_of(load_settings(SUPABASE, None, role="worker")).model is None


@pytest.mark.parametrize("tier", ["auto", "namespaces", "bwrap", "landlock", "unsafe"])
def test_a_worker_is_told_its_tier_and_limits(tier: str) -> None:
    given = {**SUPABASE, "PYTHONIC_SANDBOX": tier, "PYTHONIC_LIMITS": "memory=2GiB, cpu=30"}
    config = config_of(load_settings(given, None, role="worker"))
    assert config.sandbox == tier
    assert config.limits == SandboxLimits(memory_bytes=2 << 30, cpu_seconds=30)


def test_a_worker_by_itself_needs_a_database() -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_URL"):
        config_of(load_settings({}, None, role="worker"))
