"""Secrets sealed and opened, and the key of a worker on disk."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pythonic_assistant.adapters.secrets.keyring import key_of, worker_key
from pythonic_assistant.adapters.secrets.vault import (
    LONGEST,
    generate_key,
    key_id_of,
    public_key_of,
    seal,
    unseal,
)
from pythonic_assistant.domain.errors import ConfigurationError, InvalidInputError

CANARY = "ghp_canary_größe\n2nd line"


def test_what_was_sealed_is_opened_by_its_own_key_alone() -> None:
    key, other = generate_key(), generate_key()
    sealed = seal(public_key_of(key), CANARY)
    assert unseal(key, sealed) == CANARY
    with pytest.raises(InvalidInputError, match="another key"):
        unseal(other, sealed)


def test_sealing_twice_gives_texts_that_have_nothing_in_common() -> None:
    public = public_key_of(generate_key())
    one, two = seal(public, CANARY), seal(public, CANARY)
    assert one != two
    assert base64.b64decode(one)[:32] != base64.b64decode(two)[:32]
    assert b"canary" not in base64.b64decode(one)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_damaged_secret_is_refused(place: int) -> None:
    key = generate_key()
    damaged = bytearray(base64.b64decode(seal(public_key_of(key), CANARY)))
    damaged[place] ^= 1
    with pytest.raises(InvalidInputError, match="damaged"):
        unseal(key, base64.b64encode(damaged).decode())


@pytest.mark.parametrize("text", ["", "%%%", "c2hvcnQ=", "ä"])
def test_what_is_no_sealed_box_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="damaged"):
        unseal(generate_key(), text)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("brief", "fewer than 6"),
        ("x" * (LONGEST + 1), "64 KiB"),
        ("with\0nul", "NUL"),
        ("half a \ud800", "half"),
    ],
)
def test_a_value_that_cannot_be_protected_is_not_sealed(value: str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason) as caught:
        seal(public_key_of(generate_key()), value)
    assert value not in str(caught.value)


def test_a_key_is_known_by_its_public_half() -> None:
    private = generate_key()
    key = key_of(private)
    assert key.key_id == key_id_of(public_key_of(private))
    assert len(key.key_id) == 16
    assert private not in repr(key)


def test_a_worker_makes_its_key_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "secrets.key"
    first = worker_key(file)
    assert worker_key(file) == first
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.key"]


def test_workers_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    file = tmp_path / "secrets.key"
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda _: worker_key(file).key_id, range(32)))
    assert len(set(keys)) == 1


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secrets.key"
    worker_key(file)
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        worker_key(file)


def test_a_broken_key_file_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "secrets.key"
    file.write_text("nonsense\n")
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="holds no key"):
        worker_key(file)
    assert file.read_text() == "nonsense\n"


def test_the_setting_wins_over_the_file_and_is_checked(tmp_path: Path) -> None:
    given = generate_key()
    assert worker_key(tmp_path / "secrets.key", given).private_key == given
    assert not (tmp_path / "secrets.key").exists()
    with pytest.raises(ConfigurationError, match="PYTHONIC_SECRETS_KEY") as caught:
        worker_key(tmp_path / "secrets.key", "bm90IGEga2V5")
    assert "bm90IGEga2V5" not in str(caught.value)
