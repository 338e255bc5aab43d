"""Somebody with an account in a running stack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.acceptance.stack import Stack

DEMO = "Make a table of the mean body mass by species and sex, and save it as CSV"
PENGUINS = Path(__file__).parents[2] / "examples" / "penguins.csv"


@dataclass
class Person:
    """Somebody with an account, and everything that theirs is called."""

    id: str
    token: str
    stack: Stack

    def call(
        self, method: str, path: str, *, token: str | None = None, key: str | None = None, **more: Any
    ) -> httpx.Response:
        headers = {"apikey": key or self.stack.keys["publishable_key"], **more.pop("headers", {})}
        headers["authorization"] = f"Bearer {token or self.token}"
        return httpx.request(method, f"{self.stack.supabase}/{path}", headers=headers, timeout=20, **more)

    def rows(self, path: str) -> list[dict[str, Any]]:
        answer = self.call("GET", f"rest/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, path: str, content: bytes) -> httpx.Response:
        return self.call(
            "POST",
            f"storage/v1/object/artifacts/{path}",
            content=content,
            headers={"content-type": "text/csv"},
        )

    def ask(self) -> int:
        path = f"{self.id}/uploads/{uuid4()}/penguins.csv"
        self.upload(path, PENGUINS.read_bytes()).raise_for_status()
        answer = self.call(
            "POST",
            "rest/v1/rpc/enqueue_task",
            json={
                "prompt": DEMO,
                "inputs": [
                    {"name": "penguins.csv", "storage_path": path, "media_type": "text/csv", "bytes": 1}
                ],
            },
        )
        assert answer.status_code == 200, answer.text
        row = answer.json()
        return (row[0] if isinstance(row, list) else row)["id"]


def sign_up(stack: Stack, name: str) -> Person:
    answer = httpx.post(
        f"{stack.supabase}/auth/v1/signup",
        json={"email": f"{name}@example.com", "password": f"the password of {name}"},
        headers={"apikey": stack.keys["publishable_key"]},
        timeout=20,
    )
    answer.raise_for_status()
    body = answer.json()
    return Person(id=body["user"]["id"], token=body["access_token"], stack=stack)
