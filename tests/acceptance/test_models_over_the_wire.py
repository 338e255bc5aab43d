"""A task that is none of the demo's, through everything, over each protocol that models are served with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.stack import running_stack, until
from tests.servers import sales
from tests.servers.openai_server import TEST_MODEL, OpenAIServer

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("protocol", ["responses", "chat"])
def test_a_question_about_an_upload_is_answered_and_proven(protocol: str, tmp_path: Path) -> None:
    file = tmp_path / "my-sales.csv"
    file.write_text(sales.CSV)
    with (
        OpenAIServer(sales.script, protocol=protocol, key="sk-test-canary") as server,
        running_stack(
            {
                "OPENAI_API_KEY": "sk-test-canary",
                "OPENAI_BASE_URL": server.url,
                "PYTHONIC_MODEL": TEST_MODEL,
            }
        ) as stack,
    ):
        result = stack.ask(sales.PROMPT, file, out=tmp_path / "out")
        assert result["state"] == "succeeded", result
        assert result["verdict"] == "proven"
        assert "South" in result["answer"]
        assert "59.10" in result["answer"]
        assert result["attempts"] == 1
        assert result["usage"]["turns"] >= 5
        assert {item["outcome"] for item in result["evidence"]} == {"passed"}
        saved = {artifact["name"]: Path(artifact["path"]) for artifact in result["artifacts"]}
        assert "South,2320.35" in saved["regions_2025.csv"].read_text()
        executed = [
            event["data"]["outcome"]
            for event in stack.events(result["task_id"])
            if event["kind"] == "code_executed"
        ]
        assert executed == ["error", "ok", "ok"], "the first code fails and is mended"
        task = stack.task(result["task_id"])
        assert task["model_used"] == TEST_MODEL
        assert task["sandbox_tier"] == "namespaces"

        probe = stack.insert_task(kind="probe", prompt="Test the connection")
        row = until(lambda: (r := stack.task(probe))["finished_at"] and r, seconds=20, what="the probe")
        assert row["state"] == "succeeded", row["error"]
        assert TEST_MODEL in row["answer"]

        logs = "".join(path.read_text(errors="replace") for path in stack.home.rglob("*.log"))
        assert "sk-test-canary" not in logs
        assert stack.keys["secret_key"] not in logs
