"""What the agent asks of the world: small protocols, each with several adapters.

Every method may be cancelled; a cancelled call leaves nothing running.

Long, because it is the one list of all that the agent needs: each protocol beside the words that it uses.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.conversation import Item, Reply
from pythonic_assistant.domain.effect import Action, Begun, Look, Outcome, Place
from pythonic_assistant.domain.ending import Ending
from pythonic_assistant.domain.event import Purpose
from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile, InputFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.domain.task import ClaimedTask
from pythonic_assistant.domain.tool import ToolSpec
from pythonic_assistant.domain.variable import SavedVariable, UnsavedVariable


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


OnOutput = Callable[[Literal["stdout", "stderr"], str], None]


class SandboxSession(Protocol):
    """One task's isolated Python, with variables that live from one execution to the next."""

    async def execute(
        self, code: str, *, timeout: float, on_output: OnOutput | None = None, checkpoint: bool = False
    ) -> Execution:
        """Run code in the session's namespace.

        At `timeout` seconds the code is interrupted (variables survive), a grace later it is killed.
        Output is handed to `on_output` as it comes, decoded, on the event loop.

        With `checkpoint` the state before the code is kept (two forks, some 10 ms): `rollback` returns to it,
        and a death of the code (a crash, a limit) ends in it instead of ending the session
        (`Execution.rolled_back`).

        Raises:
            SandboxDiedError: the session was already gone before this call.
        """
        ...

    async def rollback(self) -> bool:
        """Return to the variables before the last execution with `checkpoint`; files stay as they are.

        False when there is no such state any more; then nothing has changed.

        Raises:
            SandboxDiedError: the session is gone.
        """
        ...

    async def save(self, into: Path) -> tuple[tuple[SavedVariable, ...], tuple[UnsavedVariable, ...]]:
        """Write the public variables as plain data into a folder of the host: see `SavedVariable`.

        What cannot be saved is named. The folder also gets `catalogue.json`, which `restore` reads.

        Raises:
            SandboxDiedError: the session is gone.
        """
        ...

    async def restore(self) -> tuple[str, ...]:
        """Define the variables that `.variables/catalogue.json` of the current folder lists; their names.

        For a session that has run nothing yet, opened with a `folder` that `save` has filled.

        Raises:
            SandboxDiedError: the session is gone.
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


class Egress(Protocol):
    """The way out of a session, through a proxy of the host that decides about every request."""

    @property
    def hosts(self) -> Sequence[str]:
        """The names that may be reached; anything else is refused and told."""
        ...

    @property
    def certificate(self) -> str:
        """PEM of the authority that signs what the proxy shows; trusted by this session alone."""
        ...

    def serve(self, listener: socket.socket) -> AbstractAsyncContextManager[None]:
        """Answer on a listening socket that lies in the session's own network; owns it from now on."""
        ...

    async def at(self, place: Place) -> None:
        """Say which execution the requests belong to that come from now on.

        Raises:
            SandboxUnavailableError: nobody answers for the way out any more.
        """
        ...


class Toolbox(Protocol):
    """Tools that are granted to a session; they run on the host."""

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """What there is."""
        ...

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call a tool; arguments and result are JSON values.

        Raises:
            ToolError: no such tool, arguments that its schema refuses, or the tool failed; the message is
                for the code that called.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a session may reach beyond itself; by default nothing.

    Attributes:
        environment: variables of its environment; secrets are placeholders here.
        entering: told of each execution in the session, before it begins.
    """

    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    egress: Egress | None = None
    toolbox: Toolbox | None = None
    entering: Callable[[Place], Awaitable[None]] | None = None


NO_ACCESS = Access()


class EffectStore(Protocol):
    """The rows of the ledger. Every method raises `StoreUnavailableError`, as `TaskQueue`."""

    async def begin_effect(self, fence: Fence, effect: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write an effect down before it is done; the answer's "do" says what to do."""
        ...

    async def ask_outcome(self, fence: Fence, key: str, preview: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask the person whether an effect of unknown outcome happened."""
        ...

    async def end_effect(
        self, fence: Fence, key: str, state: str, *, result: Any = None, error: str | None = None
    ) -> bool:
        """Write down what came of an effect; False when the lease is lost."""
        ...


class EffectLedger(Protocol):
    """Where each action outside is written down before it is done."""

    async def begin(self, action: Action, place: Place, *, look: Look | None = None) -> Begun:
        """Write an action down; returns whether it is to be done now, or what came of it before.

        Does not return when a person has to decide first: the run ends then.

        Args:
            look: settles an unknown outcome, where the other side can be asked.
        """
        ...

    async def end(self, key: str, outcome: Outcome, *, result: Any = None, error: str | None = None) -> None:
        """Write down what came of an action that `begin` had let go."""
        ...


class Sandbox(Protocol):
    """Makes sessions."""

    @property
    def tier(self) -> str:
        """What isolates: "namespaces", "bwrap", "landlock", or "unsafe"."""
        ...

    async def importable(self) -> frozenset[str]:
        """Names of the top-level modules that code can import: the standard library and all packages."""
        ...

    async def open(
        self,
        *,
        inputs: Sequence[InputFile] = (),
        limits: SandboxLimits = SandboxLimits(),
        seed: int | None = None,
        access: Access = NO_ACCESS,
        folder: Path | None = None,
    ) -> SandboxSession:
        """Make a session whose current folder is its scratch folder, with `inputs/<name>` read-only in it.

        Args:
            seed: of `random` and `numpy.random`, 0 to 2**63 - 1; None draws one.
            access: what it may reach beyond itself.
            folder: a folder of the host that is the current folder instead, seen read-only, `inputs/`
                included: for code that shall only look. It must hold a folder `inputs` when there are any.
                Nothing is imported from it: whoever filled it shall not run in this session.

        Raises:
            SandboxUnavailableError: this host cannot isolate code, or its tier cannot give this access.
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
        next_due_seconds: until there may be something to claim without a hint, because a scheduled task is
            due or a lease ends; None when none is in sight, and for who took all that it asked for.
    """

    tasks: tuple[ClaimedTask, ...]
    next_due_seconds: float | None
    unreadable: tuple[tuple[Fence, str], ...] = ()


LeaseStatus = Literal["ok", "cancel", "lost"]

Facts = Mapping[str, Any]
"""What a worker tells of itself: the columns of `workers` by name, and `stopped` when it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """What came of ending attempts and claiming in one go.

    Attributes:
        kept: for each attempt that ended, whether its ending counts; False when its lease was lost.
    """

    kept: Mapping[Fence, bool]
    claim: Claim


class Endings(Protocol):
    """Where attempts end."""

    async def end(self, ending: Ending) -> bool:
        """Write how an attempt ended; the same ending twice is written once.

        False when the lease is lost: then the result must be dropped.

        Raises:
            StoreUnavailableError: the database does not answer.
            InvalidInputError: the database refuses what the ending holds.
        """
        ...


class TaskQueue(Protocol):
    """Leases on tasks. Every method raises `StoreUnavailableError` when the database does not answer.

    `seen` is what others shall know of this worker; None tells nothing new.
    """

    @property
    def tells_along(self) -> bool:
        """Whether `seen` costs no call of its own."""
        ...

    async def cycle(
        self, ended: Sequence[Ending], most: int, held: Sequence[Fence], seen: Facts | None = None
    ) -> Cycle:
        """End attempts and claim up to `most` tasks, in one transaction.

        Tasks whose lease has ended are taken back first, those in `held` not.

        Raises:
            InvalidInputError: the database refuses what an ending holds; then nothing was changed.
        """
        ...

    async def recover(self) -> int:
        """Take back what a former process of this worker held; returns how many tasks."""
        ...

    async def heartbeat(
        self, held: Sequence[Fence], seen: Facts | None = None
    ) -> Mapping[Fence, LeaseStatus]:
        """Renew leases."""
        ...

    async def seen(self, facts: Facts) -> None:
        """Tell what others shall know of this worker, by itself."""
        ...


class RunJournal(Protocol):
    """Where a run's facts are written."""

    async def append(
        self, fence: Fence, events: Sequence[Mapping[str, Any]], after: int | None = None
    ) -> bool:
        """Store events `{"seq", "kind", "step_id", "at", "data"}`; the same seq twice is stored once.

        Args:
            after: the number of an event that must be stored already.

        Returns False when the lease is lost.

        Raises:
            StoreUnavailableError: the database does not answer.
            EventsForgottenError: the event numbered `after` is not there; nothing was stored.
        """
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
