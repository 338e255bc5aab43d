"""What happens in a run, as ordered facts: what the runner emits, the worker stores and the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Item
from pythonic_assistant.domain.execution import ExecutionOutcome
from pythonic_assistant.domain.plan import Plan
from pythonic_assistant.domain.verdict import Evidence, Outcome, Verdict

Purpose = Literal["plan", "code", "fix", "verify", "probe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """The run has begun.

    Attributes:
        scripted: marks the demo, which no model answers.
        sandbox: the tier.
        limits: of the session and the run, by the names of `limits.LEAST`.
        hosts: that code may reach.
    """

    model: str
    scripted: bool
    sandbox: str
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    hosts: tuple[str, ...] = ()
    kind: Literal["run_started"] = "run_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemAdded:
    """The conversation with the model has grown; what came later in an earlier attempt is left behind.

    Attributes:
        position: from 0.
        data: the JSON that a reply was read as, where JSON had been asked for.
        usage: of the reply.
    """

    position: int
    item: Item
    data: Mapping[str, Any] | None = None
    usage: Usage | None = None
    kind: Literal["item_added"] = "item_added"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCalled:
    """A model was asked; written before the answer is there, so that waiting can be shown."""

    purpose: Purpose
    step_id: str | None = None
    kind: Literal["model_called"] = "model_called"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReplied:
    """The model answered. `usage` is of this one reply."""

    purpose: Purpose
    seconds: float
    usage: Usage
    step_id: str | None = None
    kind: Literal["model_replied"] = "model_replied"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMade:
    """The plan of the run."""

    plan: Plan
    kind: Literal["plan_made"] = "plan_made"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """Work on a step has begun."""

    step_id: str
    kind: Literal["step_started"] = "step_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRestored:
    """A step that an earlier attempt had finished was rebuilt by running its recorded code again."""

    step_id: str
    kind: Literal["step_restored"] = "step_restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeWritten:
    """The model wrote code. `execution` counts from 1 within the step; above 1 it is a fix."""

    step_id: str
    execution: int
    code: str
    thought: str = ""
    kind: Literal["code_written"] = "code_written"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputWritten:
    """A piece of what running code writes, as it comes."""

    step_id: str
    execution: int
    stream: Literal["stdout", "stderr"]
    text: str
    kind: Literal["output_written"] = "output_written"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeExecuted:
    """An execution ended. `output` is stdout, stderr and the last value together, cut for reading.

    `rolled_back`: what it did to variables has been undone.
    """

    step_id: str
    execution: int
    outcome: ExecutionOutcome
    output: str
    error: str
    seconds: float
    rolled_back: bool = False
    kind: Literal["code_executed"] = "code_executed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """A step ended. `code` is what succeeded, and what a later attempt runs again to rebuild its state."""

    step_id: str
    outcome: Literal["succeeded", "failed"]
    code: str
    output: str
    executions: int
    error: str = ""
    kind: Literal["step_finished"] = "step_finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationStarted:
    """A round of checks begins; rounds count from 1."""

    round: int
    kind: Literal["verification_started"] = "verification_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckExecuted:
    """A check was executed."""

    round: int
    check: str
    outcome: Outcome
    detail: str
    code: str
    kind: Literal["check_executed"] = "check_executed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactSaved:
    """A file was left by the task; `path` is where its copy is on the worker's host, for the worker only."""

    name: str
    path: str
    media_type: str
    bytes: int
    sha256: str
    kind: Literal["artifact_saved"] = "artifact_saved"


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressRequested:
    """Code asked for something outside. Paths, headers and bodies are not kept: they may be private.

    Attributes:
        method: of HTTP; CONNECT where the request itself was never seen.
        sent_bytes, received_bytes: of the bodies.
        reason: why it was refused or failed; else empty.
        status: of the answer; 0 where there was none.
        secrets: names of the secrets that were put in, never values.
    """

    host: str
    port: int
    method: str
    outcome: Literal["allowed", "refused", "failed"]
    reason: str = ""
    status: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    seconds: float = 0.0
    secrets: tuple[str, ...] = ()
    kind: Literal["egress_requested"] = "egress_requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled:
    """Code called a tool.

    Attributes:
        arguments: JSON text, cut for reading.
        detail: the error, or the size of the result.
    """

    tool: str
    arguments: str
    outcome: Literal["ok", "refused", "failed"]
    detail: str
    seconds: float
    kind: Literal["tool_called"] = "tool_called"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableSaved:
    """A variable was kept for later tasks of the thread; see `SavedVariable`.

    `path` is where the file is on the worker's host, for the worker only.
    """

    name: str
    type: str
    shape: str
    bytes: int
    media_type: str
    load: str
    path: str
    kind: Literal["variable_saved"] = "variable_saved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A sentence for the person: a retry, a downgrade, a limit that was hit."""

    text: str
    level: Literal["info", "warning"] = "info"
    kind: Literal["noted"] = "noted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSucceeded:
    """The run ended with an answer; how sure it is, the verdict says."""

    answer: str
    verdict: Verdict
    usage: Usage
    kind: Literal["run_succeeded"] = "run_succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed:
    """The run ended without an answer that may be given.

    Attributes:
        error: what went wrong and what to do, in a few sentences.
        retryable: whether the queue should try again by itself.
        evidence: checks that refuted the answer, where that is why.
        refuted_answer: that answer, kept for people who want to see it.
    """

    error: str
    retryable: bool
    usage: Usage
    evidence: tuple[Evidence, ...] = ()
    refuted_answer: str = ""
    kind: Literal["run_failed"] = "run_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWaiting:
    """The run cannot go on without a person: it ends, and a later attempt continues.

    Attributes:
        reason: what it waits for, in a sentence for people.
    """

    reason: str
    usage: Usage
    kind: Literal["run_waiting"] = "run_waiting"


Event = (
    RunStarted
    | ItemAdded
    | ModelCalled
    | ModelReplied
    | PlanMade
    | StepStarted
    | StepRestored
    | CodeWritten
    | OutputWritten
    | CodeExecuted
    | StepFinished
    | VerificationStarted
    | CheckExecuted
    | ArtifactSaved
    | EgressRequested
    | ToolCalled
    | VariableSaved
    | Noted
    | RunSucceeded
    | RunFailed
    | RunWaiting
)
