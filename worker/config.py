"""What a worker is told at its start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pythonic_assistant.adapters.mail import MailServer
from pythonic_assistant.domain.budget import Budget
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.settings import SandboxChoice
from pythonic_assistant.wire import ModelConfig

MOST_BUDGET: Final = Budget(
    turns=400, tokens=8_000_000, cost=100.0, seconds=6 * 3600.0, execution_seconds=3600.0
)
"""The most that a task may name where the operator says nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Settings of one worker.

    Attributes:
        supabase_key: the secret key.
        database_url: of PostgreSQL itself, when the queue is used directly; None means over the API.
        home: state folder; runs have their folders below it while they last.
        model: None while none is configured: then only the scripted demo answers.
        labels: what this worker offers; it is given no task that asks for more.
        slots: how many tasks run at once.
        lease_seconds: how long a claim holds without a heartbeat.
        beat_seconds: between two heartbeats; three fit into a lease.
        poll_seconds: between two claims when no hint came; hints can be lost.
        seen_seconds: between two signs of life that go along with another call.
        seen_apart_seconds: between two that are calls of their own.
        drain_seconds: how long a stop waits for the database to take unfinished tasks back.
        input_bytes: the largest file that a person may give.
        sandbox: which tier isolates generated code; see `open_sandbox`.
        limits: of every sandbox session, by default and at most.
        packages: folder of additional packages of the sandbox, or None.
        budget: of a run whose task names none.
        most_budget: the most that a task may name.
        private_hosts: the operator's routes to hosts with private addresses, as written.
        secrets_key: the private key for secrets; None means the one in `home`.
        mail: where e-mail of rules is handed in; None: by this worker none is sent.
        mail_to: addresses and @domains that rules may write to beside people's own.
    """

    supabase_url: str
    supabase_key: str
    home: Path
    database_url: str | None = None
    model: ModelConfig | None = None
    slots: int = 4
    labels: tuple[str, ...] = ()
    queue: str = "default"
    lease_seconds: float = 15.0
    beat_seconds: float = 4.0
    poll_seconds: float = 5.0
    seen_seconds: float = 10.0
    seen_apart_seconds: float = 30.0
    drain_seconds: float = 8.0
    input_bytes: int = 1 << 30
    budget: Budget = field(default_factory=Budget)
    sandbox: SandboxChoice = "auto"
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    packages: Path | None = None
    most_budget: Budget = MOST_BUDGET
    private_hosts: str = ""
    secrets_key: str | None = None
    mail: MailServer | None = None
    mail_to: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"WorkerConfig({self.supabase_url!r}, slots={self.slots}, home={str(self.home)!r}, key=…)"
