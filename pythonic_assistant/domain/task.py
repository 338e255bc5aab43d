"""A task as its queue and its runner see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pythonic_assistant.domain.budget import Budget, Usage
from pythonic_assistant.domain.conversation import Recorded
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.domain.plan import Plan
from pythonic_assistant.domain.price import Price
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.domain.variable import SavedVariable

TaskState = Literal["scheduled", "held", "queued", "running", "waiting", "succeeded", "failed", "cancelled"]
TaskKind = Literal["task", "probe"]
DEMO_MODEL = "scripted-demo"
"""The model's name by which a task asks for the scripted demo."""

FINAL_STATES: frozenset[TaskState] = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of a user in Storage; `storage_path` begins with the user's id.

    `earlier` marks one that came with an earlier task of the thread: it may be gone by now.
    """

    name: str
    storage_path: str
    media_type: str
    bytes: int
    earlier: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVariable:
    """A variable of a thread whose file is in Storage; the other fields as in `SavedVariable`."""

    name: str
    type: str
    shape: str
    bytes: int
    media_type: str
    load: str
    storage_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedStep:
    """A step that an earlier attempt finished, with the code that rebuilds its state."""

    step_id: str
    code: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """What earlier attempts of the same task left: the plan, and the steps that were finished."""

    plan: Plan
    finished: tuple[FinishedStep, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An earlier message of the thread."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTask:
    """A task that this worker holds. `(id, attempt)` fences every write about it.

    Attributes:
        hosts: that its code may reach: those of the task, its thread and its assistant.
        limits: of the assistant, replaced by those of the task; names as in `limits.LEAST`.
        tools: names of the tools that its assistant grants.
        saved: variables that earlier tasks of the thread left.
        recorded: the conversation of earlier attempts.
        spent: what they cost.
    """

    id: int
    attempt: int
    user_id: str
    kind: TaskKind
    prompt: str
    thread_id: str | None
    model: str | None
    instructions: str
    inputs: tuple[StoredFile, ...]
    resume: Resume | None = None
    history: tuple[Exchange, ...] = ()
    hosts: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    tools: tuple[str, ...] = ()
    saved: tuple[StoredVariable, ...] = ()
    recorded: tuple[Recorded, ...] = ()
    spent: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """All that one run needs, and nothing of the database.

    Attributes:
        history: earlier messages of the thread, oldest first.
        instructions: those of the assistant; may be empty.
        seed: of chance in the sandbox; the same for all attempts of a task; None draws one.
        limits: of the sandbox session.
        environment: of the sandbox session; secrets are placeholders, except those in `raw`.
        raw: names in `environment` whose values are secrets in the clear, by their owner's choice: they are
            cut out of whatever leaves the session.
        hosts: that code may reach, for the model to know; the proxy decides.
        tools: that code may call.
        saved: variables of earlier tasks of the thread; each `path` is the place in the session.
        recorded: the conversation of earlier attempts, which this one goes on with.
        spent: what they cost; counts in the budget.
        cache_key: the same for runs whose conversations begin alike, such as those of one thread.
        price: of the model; None where nobody knows.
    """

    prompt: str
    kind: TaskKind = "task"
    instructions: str = ""
    files: tuple[InputFile, ...] = ()
    history: tuple[Exchange, ...] = ()
    budget: Budget = field(default_factory=Budget)
    resume: Resume | None = None
    seed: int | None = None
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    raw: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    saved: tuple[SavedVariable, ...] = ()
    recorded: tuple[Recorded, ...] = ()
    spent: Usage = field(default_factory=Usage)
    cache_key: str = ""
    price: Price | None = None
