"""What the agent asks of the world: small protocols, each with several adapters.

Every method may be cancelled; a cancelled call leaves nothing running.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Item, Reply
from pythonic_assistant.domain.event import Purpose
from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile, InputFile
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.domain.verdict import Evidence, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class TextWanted:
    """The reply shall be words."""

    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeWanted:
    """The reply shall hold one piece of Python."""

    kind: Literal["code"] = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonWanted:
    """The reply shall be one JSON object of this schema (strict: all keys required, none added)."""

    name: str
    schema: Mapping[str, Any]
    kind: Literal["json"] = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question to a model: everything it may know is in here, nothing is kept by the server.

    Attributes:
        purpose: why the loop asks; for events and for the scripted model.
        instructions: the stable prefix.
        items: the conversation so far, oldest first; the same prefix as in the request before, so that
            servers can cache it.
        wanted: the form of the reply.
        cache_key: the same for all requests of a run.
    """

    purpose: Purpose
    instructions: str
    items: Sequence[Item]
    wanted: TextWanted | CodeWanted | JsonWanted
    cache_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """A model's answer.

    Attributes:
        reply: to be appended to the conversation.
        data: the JSON object for `JsonWanted` (parsed, not yet validated against the schema), else None.
        usage: of this call; `turns` is 1, or 2 when an unreadable reply was asked for again.
        notes: sentences for the person, such as a downgrade of the code format.
    """

    reply: Reply
    data: Mapping[str, Any] | None
    usage: Usage
    notes: tuple[str, ...] = ()


class Model(Protocol):
    """A language model, or something that stands in for one."""

    @property
    def name(self) -> str:
        """The model's name as its server knows it."""
        ...

    @property
    def scripted(self) -> bool:
        """True for the demo and for tests: no AI answers."""
        ...

    async def respond(self, request: ModelRequest) -> ModelReply:
        """Ask once, with the retries that are worth it.

        Raises:
            ModelUnavailableError: no answer after the retries.
            ModelRefusedError: bad key, unknown model, refused request.
            ModelReplyError: an empty or unreadable reply.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """Limits of one session.

    Attributes:
        memory_bytes: of all processes of the session together, scratch files included.
        processes: alive at the same time.
        cpu_seconds: of each process, over the whole session.
        disk_bytes: of the scratch folder.
        inodes: files and folders in the scratch folder.
        output_bytes: of stdout and stderr of one execution; what comes later is dropped.
        open_files: per process.
    """

    memory_bytes: int = 1 << 30
    processes: int = 64
    cpu_seconds: int = 600
    disk_bytes: int = 512 << 20
    inodes: int = 20_000
    output_bytes: int = 1 << 20
    open_files: int = 256


OnOutput = Callable[[Literal["stdout", "stderr"], str], None]


class SandboxSession(Protocol):
    """One task's isolated Python, with variables that live from one execution to the next."""

    async def execute(self, code: str, *, timeout: float, on_output: OnOutput | None = None) -> Execution:
        """Run code in the session's namespace.

        At `timeout` seconds the code is interrupted (variables survive), a grace later it is killed.
        Output is handed to `on_output` as it comes, decoded, on the event loop.

        Raises:
            SandboxDiedError: the session was already gone before this call.
        """
        ...

    async def variables(self) -> tuple[VariableInfo, ...]:
        """Describe the public variables that are alive, for the model.

        Raises:
            SandboxDiedError: the session is gone.
        """
        ...

    async def collect(self, into: Path) -> tuple[ArtifactFile, ...]:
        """Copy the regular files of the scratch folder into a folder of the host.

        Symlinks, devices, hard links, hidden files and `inputs/` are left out. Files that do not fit
        the size caps are left out too and named in `skipped`.
        """
        ...

    @property
    def skipped(self) -> tuple[str, ...]:
        """One sentence for each file that the last `collect` left out although it looked like a result."""
        ...

    async def close(self) -> None:
        """End every process of the session and free its disk. May be called twice."""
        ...


class Sandbox(Protocol):
    """Makes sessions."""

    @property
    def tier(self) -> str:
        """What isolates: "namespaces", "bwrap", "landlock", or "unsafe"."""
        ...

    async def open(
        self,
        *,
        inputs: Sequence[InputFile] = (),
        limits: SandboxLimits = SandboxLimits(),
        seed: int | None = None,
    ) -> SandboxSession:
        """Make a session whose current folder is its scratch folder, with `inputs/<name>` read-only in it.

        Args:
            seed: of `random` and `numpy.random`, 0 to 2**63 - 1; None draws one.

        Raises:
            SandboxUnavailableError: this host cannot isolate code.
            InvalidInputError: a limit is impossible or an input cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Fence:
    """What every write about a running task names: a writer that was overtaken is refused."""

    task_id: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a claim brought.

    Attributes:
        unreadable: tasks that were claimed but make no sense to this version, and why.
        next_due_seconds: until the next scheduled task is due, or None when none is scheduled.
    """

    tasks: tuple[ClaimedTask, ...]
    next_due_seconds: float | None
    unreadable: tuple[tuple[Fence, str], ...] = ()


LeaseStatus = Literal["ok", "cancel", "lost"]


class TaskQueue(Protocol):
    """Leases on tasks. Every method raises `StoreUnavailableError` when the database does not answer."""

    async def claim(self, most: int, held: Sequence[Fence]) -> Claim:
        """Claim up to `most` tasks; tasks whose lease has ended are taken back first, those in `held` not."""
        ...

    async def recover(self) -> int:
        """Take back what a former process of this worker held; returns how many tasks."""
        ...

    async def heartbeat(self, held: Sequence[Fence]) -> Mapping[Fence, LeaseStatus]:
        """Renew leases."""
        ...

    async def release(self, fence: Fence) -> bool:
        """Give an unfinished task back at once, without a failure; False when the lease is lost."""
        ...

    async def confirm_cancel(self, fence: Fence) -> bool:
        """Say that a task that was to be cancelled has been stopped; False when the lease is lost."""
        ...


class RunJournal(Protocol):
    """Where a run's facts are written. Every method raises `StoreUnavailableError` as above.

    Each returns False when the lease is lost: then the result must be dropped.
    """

    async def append(self, fence: Fence, events: Sequence[Mapping[str, Any]]) -> bool:
        """Store events `{"seq", "kind", "step_id", "at", "data"}`; the same seq twice is stored once."""
        ...

    async def finish(self, fence: Fence, *, answer: str, verdict: Verdict, usage: Usage) -> bool:
        """End a task with its answer."""
        ...

    async def fail(
        self, fence: Fence, *, error: str, retryable: bool, evidence: Sequence[Evidence], usage: Usage
    ) -> bool:
        """End an attempt without an answer."""
        ...


class FileStore(Protocol):
    """Files of people in Storage. Both raise `StoreUnavailableError`."""

    async def download(self, storage_path: str, into: Path, *, most_bytes: int) -> int:
        """Copy a file to the host; returns its size.

        Raises:
            InvalidInputError: there is no such file, or it is larger than `most_bytes`.
        """
        ...

    async def upload(self, path: Path, storage_path: str, media_type: str) -> None:
        """Copy a file of the host to Storage, over what may be there."""
        ...
