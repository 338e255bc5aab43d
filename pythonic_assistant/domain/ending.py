"""How an attempt leaves its task: one of five ways, written by the worker that holds the lease."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.verdict import Evidence, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The task has its answer."""

    task_id: int
    attempt: int
    answer: str
    verdict: Verdict
    usage: Usage
    kind: Literal["finish"] = "finish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The attempt ended without an answer.

    Attributes:
        error: what went wrong and what to do, in a few sentences.
        retryable: whether the queue should try again by itself.
    """

    task_id: int
    attempt: int
    error: str
    retryable: bool
    evidence: tuple[Evidence, ...] = ()
    usage: Usage = field(default_factory=Usage)
    kind: Literal["fail"] = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The worker stops: the task is given back unfinished, without a failure."""

    task_id: int
    attempt: int
    kind: Literal["release"] = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """What was to be cancelled has been stopped."""

    task_id: int
    attempt: int
    kind: Literal["cancel"] = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The task needs a person; until then it holds no process and no slot.

    Attributes:
        reason: what it waits for, in a sentence for people.
    """

    task_id: int
    attempt: int
    reason: str
    usage: Usage = field(default_factory=Usage)
    kind: Literal["wait"] = "wait"


Ending = Finished | Failed | Released | Cancelled | Waiting
