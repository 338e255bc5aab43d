"""The README's task about the AWS bill: placeholders in the sandbox, real keys on the wire alone."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.acceptance.stack import ROOT, Stack, running_stack
from tests.servers import aws_bill
from tests.servers.aws import AwsServer
from tests.servers.openai_server import TEST_MODEL, OpenAIServer

pytestmark = pytest.mark.timeout(180)

ACCESS_KEY, SECRET_KEY = "AKIAREALCANARY77QQZX", "real/canary+Zq81mXw0Lk5uT3vYh9Rb2Ns7Pe4Da6Gc"


def _set_secret(stack: Stack, name: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pythonic_assistant.cli", "secrets", "set", name, "--host", aws_bill.HOST],
        cwd=ROOT,
        env=stack.environment,
        input=value,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert value not in done.stdout + done.stderr


def _dump(stack: Stack) -> str:
    """Every row that a person or the worker can read, as text."""
    tables = (
        "tasks", "task_steps", "task_events", "artifacts", "messages", "threads", "variables", "assistants",
        "secrets", "secret_keys", "task_overview",
    )  # fmt: skip
    return "\n".join(str(stack.rest("GET", f"{table}?select=*")) for table in tables)


def _files_with(folder: Path, words: list[bytes]) -> list[str]:
    """Files below a folder that hold one of the words; the database's own files included."""
    return [
        f"{path}: {word[:8]!r}…"
        for path in folder.rglob("*")
        if path.is_file()
        for word in words
        if word in path.read_bytes()
    ]


def test_the_bill_is_proven_and_the_key_is_nowhere(tmp_path: Path) -> None:
    with AwsServer(ACCESS_KEY, SECRET_KEY) as aws, OpenAIServer(aws_bill.script, key="sk-test") as model:
        httpx.post(
            f"{aws.url}/moto-api/static/ce/cost-and-usage-results", json={"results": aws_bill.RESULTS * 3}
        ).raise_for_status()
        settings = {
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": model.url,
            "PYTHONIC_MODEL": TEST_MODEL,
            "PYTHONIC_PRIVATE_HOSTS": f"{aws_bill.HOST}={aws.url}",
        }
        with running_stack(settings) as stack:
            _set_secret(stack, "AWS_ACCESS_KEY_ID", ACCESS_KEY)
            _set_secret(stack, "AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            result = stack.ask(
                aws_bill.PROMPT, out=tmp_path / "out", arguments=["--allow", aws_bill.HOST], seconds=90
            )
            assert result["state"] == "succeeded", result
            assert result["verdict"] == "proven"
            assert "474.35 USD" in result["answer"]
            assert "Elastic Compute" in result["answer"]
            assert aws.refused == []
            assert aws.served == 1

            events = stack.events(result["task_id"])
            requests = [event["data"] for event in events if event["kind"] == "egress_requested"]
            assert [(r["host"], r["outcome"], r["status"]) for r in requests] == [
                (aws_bill.HOST, "allowed", 200)
            ]
            assert set(requests[0]["secrets"]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
            written = str(events)
            assert "the key that code sees: PLACEHOLDER_AWS_SECRET_ACCESS_KEY_" in written

            told = "\n".join(str(request) for request in model.requests)
            for secret in (ACCESS_KEY, SECRET_KEY):
                assert secret not in _dump(stack)
                assert secret not in told
            words = [
                spelling
                for secret in (ACCESS_KEY, SECRET_KEY)
                for spelling in (secret.encode(), base64.b64encode(secret.encode()).rstrip(b"="))
            ]
            found = _files_with(stack.home, words) + _files_with(tmp_path, words)
            assert not found


def test_without_permission_the_key_and_the_host_are_out_of_reach(tmp_path: Path) -> None:
    with AwsServer(ACCESS_KEY, SECRET_KEY) as aws, OpenAIServer(aws_bill.script, key="sk-test") as model:
        settings = {
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": model.url,
            "PYTHONIC_MODEL": TEST_MODEL,
            "PYTHONIC_PRIVATE_HOSTS": f"{aws_bill.HOST}={aws.url}",
        }
        with running_stack(settings) as stack:
            _set_secret(stack, "AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            result = stack.ask(aws_bill.PROMPT, out=tmp_path / "out", seconds=90)
            assert result["state"] == "failed", result
            assert "KeyError" in str(stack.task(result["task_id"]))
            assert aws.served == 0
