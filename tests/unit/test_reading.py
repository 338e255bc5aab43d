"""What the model reads of an execution."""

from __future__ import annotations

from pythonic_assistant.adapters.sandbox.hints import output_cut
from pythonic_assistant.agent.reading import output_of
from pythonic_assistant.domain.execution import Execution
from pythonic_assistant.domain.limits import SandboxLimits


def test_output_that_was_cut_is_told_once_with_the_limit() -> None:
    limits = SandboxLimits(output_bytes=10_000)
    execution = Execution(outcome="ok", stdout="x" * 100, stderr=output_cut(limits), truncated=True)
    said = output_of(execution)
    assert said.count("10,000 bytes") == 1
    assert said.count("limit") == 1
    assert "dropped" not in said
