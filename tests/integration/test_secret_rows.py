"""Who may write, list and read secrets and the keys they are sealed to: through the API, as people do."""

from __future__ import annotations

from typing import Any

import pytest

from pythonic_assistant.adapters.secrets.keyring import key_of
from pythonic_assistant.adapters.secrets.vault import generate_key, seal, unseal
from tests.integration.callers import KEY, Someone

pytestmark = pytest.mark.timeout(60)


def test_a_secret_is_written_replaced_listed_and_removed_but_never_read(
    ann: Someone, worker: Someone
) -> None:
    assert ann.set_secret(value="first value").status_code in {200, 204}
    assert ann.set_secret(value="second value", hosts=["EXAMPLE.org"]).status_code in {200, 204}
    (row,) = ann.get("secrets?select=name,hosts,raw,key_id,last_used_at").json()
    assert row == {
        "name": "TOKEN",
        "hosts": ["example.org"],
        "raw": False,
        "key_id": KEY.key_id,
        "last_used_at": None,
    }
    for path in (
        "secrets",
        "secrets?select=*",
        "secrets?select=ciphertext",
        "secrets?select=name&ciphertext=like.A*",
        "secrets?select=name&order=ciphertext",
        "profiles?select=secrets(ciphertext)",
    ):
        answer = ann.get(path)
        assert answer.status_code >= 400, (path, answer.text)
    kept = worker.get(f"secrets?user_id=eq.{ann.id}&select=id,ciphertext").json()
    assert [unseal(KEY.private_key, item["ciphertext"]) for item in kept] == ["second value"]
    worker.rpc("secret_used", ids=[kept[0]["id"]]).raise_for_status()
    assert ann.get("secrets?select=last_used_at").json()[0]["last_used_at"] is not None
    ann.delete("secrets?name=eq.TOKEN").raise_for_status()
    assert ann.get("secrets?select=name").json() == []


def test_a_returned_row_does_not_show_the_ciphertext_either(ann: Someone) -> None:
    row = {
        "name": "TOKEN",
        "hosts": ["a.example.org"],
        "ciphertext": seal(KEY.public_key, "the value"),
        "key_id": KEY.key_id,
    }
    assert ann.post("secrets", row, "return=representation").status_code >= 400
    assert ann.post("secrets?select=name,hosts", row, "return=representation").json() == [
        {"name": "TOKEN", "hosts": ["a.example.org"]}
    ]


@pytest.mark.parametrize("change", [{"hosts": ["evil.example.org"]}, {"raw": True}])
def test_hosts_of_a_secret_cannot_be_changed_without_its_value(ann: Someone, change: dict[str, Any]) -> None:
    ann.set_secret(hosts=["api.github.com"]).raise_for_status()
    assert ann.patch("secrets?name=eq.TOKEN", change).status_code in {401, 403}
    (row,) = ann.get("secrets?select=hosts,raw").json()
    assert row == {"hosts": ["api.github.com"], "raw": False}


def test_secrets_of_others_are_out_of_reach(ann: Someone, bob: Someone, nobody: Someone) -> None:
    ann.set_secret().raise_for_status()
    for stranger in (bob, nobody):
        answer = stranger.get("secrets?select=id,name")
        assert answer.status_code in {401, 403} or answer.json() == []
        stranger.patch(f"secrets?user_id=eq.{ann.id}", {"hosts": ["evil.example.org"]})
        stranger.delete(f"secrets?user_id=eq.{ann.id}")
    row = {
        "name": "X_TOKEN",
        "hosts": ["a.example.org"],
        "ciphertext": seal(KEY.public_key, "the value"),
        "key_id": KEY.key_id,
        "user_id": ann.id,
    }
    assert bob.post("secrets", row).status_code in {401, 403}
    assert nobody.set_secret().status_code in {401, 403, 404}
    assert bob.patch("secrets?name=eq.TOKEN", {"user_id": bob.id}).status_code in {401, 403}
    assert ann.get("secrets?select=name,hosts").json() == [{"name": "TOKEN", "hosts": ["api.github.com"]}]


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "LD_PRELOAD",
        "HTTPS_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "AWS_CA_BUNDLE",
        "AWS_ENDPOINT_URL_S3",
        "GIT_SSL_CAINFO",
        "BASH_ENV",
        "LC_ALL",
    ],
)
def test_a_name_that_programs_obey_is_refused(ann: Someone, name: str) -> None:
    answer = ann.set_secret(name)
    assert answer.status_code == 400, answer.text
    assert "choose another" in answer.json()["message"]


@pytest.mark.parametrize(
    "name", ["GITHUB_TOKEN", "AWS_ACCESS_KEY_ID", "PGPASSWORD", "HOMEPAGE_KEY", "LDAP_PASSWORD"]
)
def test_ordinary_names_are_taken(ann: Someone, name: str) -> None:
    assert ann.set_secret(name).status_code in {200, 204}


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"name": "token"}, "like an environment variable"),
        ({"name": "A B"}, "like an environment variable"),
        ({"hosts": []}, "at least one host"),
        ({"hosts": [f"h{number}.example.org" for number in range(21)]}, "at most 20"),
        ({"key_id": "0" * 16}, "no worker has published"),
        ({"ciphertext": "plain value, not sealed!"}, "no base64"),
        ({"ciphertext": "AAAA"}, "empty, or longer"),
        ({"ciphertext": "A" * 100_004}, "empty, or longer"),
    ],
    ids=str,
)
def test_an_impossible_secret_is_refused_in_a_sentence(
    ann: Someone, columns: dict[str, Any], sentence: str
) -> None:
    answer = ann.set_secret(**columns)
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["message"]
    assert ann.get("secrets?select=name").json() == []


def test_a_secret_cannot_be_moved_to_a_name_that_is_taken_by_the_system(ann: Someone) -> None:
    ann.set_secret().raise_for_status()
    assert ann.patch("secrets?name=eq.TOKEN", {"name": "PATH"}).status_code >= 400
    assert ann.patch("secrets?name=eq.TOKEN", {"last_used_at": None}).status_code in {401, 403}


def test_only_workers_publish_keys(ann: Someone, nobody: Someone, worker: Someone) -> None:
    other = key_of(generate_key())
    row = {"key_id": other.key_id, "public_key": other.public_key}
    for attacker in (ann, nobody):
        assert attacker.post("secret_keys", row).status_code in {401, 403}
        changed = attacker.patch(f"secret_keys?key_id=eq.{KEY.key_id}", {"public_key": other.public_key})
        assert changed.status_code in {401, 403}
        assert attacker.delete(f"secret_keys?key_id=eq.{KEY.key_id}").status_code in {401, 403}
    assert ann.get(f"secret_keys?key_id=eq.{KEY.key_id}&select=public_key").json() == [
        {"public_key": KEY.public_key}
    ]
    seen = nobody.get("secret_keys?select=public_key")
    assert seen.status_code in {401, 403} or seen.json() == []
    assert worker.post("secret_keys", row | {"public_key": "no key"}).status_code == 400
