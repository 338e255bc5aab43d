"""People and workers who call the REST API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from pythonic_assistant.adapters.secrets.keyring import key_of
from pythonic_assistant.adapters.secrets.vault import generate_key, seal
from tests.embedded_fixtures import RunningSupabase

KEY = key_of(generate_key())


@dataclass(frozen=True)
class Someone:
    """A caller of the REST API."""

    client: httpx.Client
    id: str = ""

    def get(self, path: str) -> httpx.Response:
        return self.client.get(f"/rest/v1/{path}")

    def post(self, path: str, row: Any, prefer: str = "return=minimal") -> httpx.Response:
        return self.client.post(f"/rest/v1/{path}", json=row, headers={"Prefer": prefer})

    def patch(self, path: str, row: Any) -> httpx.Response:
        return self.client.patch(f"/rest/v1/{path}", json=row, headers={"Prefer": "return=minimal"})

    def delete(self, path: str) -> httpx.Response:
        return self.client.delete(f"/rest/v1/{path}")

    def rpc(self, function: str, **arguments: Any) -> httpx.Response:
        return self.client.post(f"/rest/v1/rpc/{function}", json=arguments)

    def thread(self) -> str:
        made = self.post("threads", {"title": "T"}, "return=representation")
        assert made.status_code == 201, made.text
        return made.json()[0]["id"]

    def set_secret(self, name: str = "TOKEN", value: str = "the value", **columns: Any) -> httpx.Response:
        row = {
            "name": name,
            "hosts": ["api.github.com"],
            "ciphertext": seal(KEY.public_key, value),
            "key_id": KEY.key_id,
        }
        return self.rpc("set_secret", **(row | columns))


def caller(running: RunningSupabase, key: str, token: str, who: str = "") -> Someone:
    headers = {"apikey": key, "Authorization": f"Bearer {token}"}
    return Someone(httpx.Client(base_url=running.url, headers=headers, timeout=20), who)


def signed_up(running: RunningSupabase) -> Someone:
    account = running.sign_up()
    return caller(running, running.publishable_key, account["access_token"], account["user"]["id"])
