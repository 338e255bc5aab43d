"""`pythonic ask`: a task through the queue, followed to its end."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from rich.console import Console
from rich.markdown import Markdown

from pythonic_assistant.adapters.schedules.wording import moment_in_words
from pythonic_assistant.adapters.store.approvals import Approvals
from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.adapters.store.naming import BUCKET
from pythonic_assistant.cli.account import SignedIn, account_of, sign_in
from pythonic_assistant.cli.deciding import Deciding
from pythonic_assistant.cli.deciding import as_json as approval_json
from pythonic_assistant.cli.follow import follow
from pythonic_assistant.cli.progress import Progress
from pythonic_assistant.cli.safe import safe
from pythonic_assistant.cli.when import read_moment
from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.hosts import read_hosts
from pythonic_assistant.domain.task import DEMO_MODEL, FINAL_STATES
from pythonic_assistant.settings import Settings

FAILED_EXIT = 1
WAITING_EXIT = 3
"""With `--json`: the task waits for a decision."""
LONGEST_UPLOAD = 1 << 30
"""Bytes: what the embedded Supabase and workers take. A hosted project may be set to less, and says so."""
TRANSFER_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was typed."""

    prompt: str
    files: tuple[Path, ...] = ()
    model: str | None = None
    out: Path | None = None
    as_json: bool = False
    hosts: tuple[str, ...] = ()
    at: str | None = None


async def ask(settings: Settings, question: Question) -> int:
    """Ask, follow, print; returns 0 when the task succeeded, and 3 when it waits and JSON was asked for.

    A task for later is not followed.
    """
    hosts = read_hosts(question.hosts)
    run_at = read_moment(question.at) if question.at is not None else None
    for path in question.files:
        _ensure_sendable(path)
    person = await sign_in(account_of(settings))
    inputs = [await _upload(person, path) for path in question.files]
    reply = await call(
        "enqueue the task",
        person.client.rpc(
            "enqueue_task",
            {
                "prompt": question.prompt,
                "inputs": inputs,
                "model": question.model,
                "dedupe_key": str(uuid4()),
                "hosts": list(hosts),
                "run_at": run_at.isoformat() if run_at else None,
            },
        ).execute(),
    )
    task_id = int(_row(reply.data)["id"])
    if run_at is not None:
        later = {"task_id": task_id, "state": _row(reply.data)["state"], "run_at": run_at.isoformat()}
        told = f"Task {task_id} begins {moment_in_words(run_at)} ({run_at.tzname()})."
        sys.stdout.write((json.dumps(later) if question.as_json else told) + "\n")
        return 0
    return await _to_the_end(person, task_id, question.out, as_json=question.as_json, asked=True)


async def follow_task(settings: Settings, task_id: int, out: Path | None, *, as_json: bool) -> int:
    """Follow a task that was asked before, print what came of it; returns as `ask` does."""
    person = await sign_in(account_of(settings))
    return await _to_the_end(person, task_id, out, as_json=as_json, asked=False)


async def _to_the_end(person: SignedIn, task_id: int, out: Path | None, *, as_json: bool, asked: bool) -> int:
    console = Console(stderr=True)
    progress = Progress(console, quiet=as_json)
    if asked:
        progress.asked(task_id)
    approvals = Approvals(person.client)
    if as_json:
        # Whoever reads JSON decides by another command: to wait here would be to wait for nobody.
        until = (*FINAL_STATES, "waiting")
        task = await follow(person, task_id, progress.event, progress.unreachable, until=until)
    else:
        asks = sys.stdin.isatty() and console.is_terminal
        deciding = Deciding(approvals, console, asks=asks)
        try:
            task = await follow(person, task_id, progress.event, progress.unreachable, deciding.look)
        finally:
            await deciding.close()
    artifacts = await _download_all(person, task_id, out or Path(f"task-{task_id}"))
    if as_json:
        waiting = [one for one in await approvals.of_tasks([task_id]) if one.pending]
        result = _result(task, artifacts) | {"approvals": [approval_json(one) for one in waiting]}
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        _show(task, artifacts)
    if task["state"] == "waiting":
        return WAITING_EXIT
    return 0 if task["state"] == "succeeded" else FAILED_EXIT


async def cancel(settings: Settings, task_id: int) -> int:
    """Cancel a task of the person."""
    person = await sign_in(account_of(settings))
    reply = await call("cancel the task", person.client.rpc("cancel_task", {"task_id": task_id}).execute())
    sys.stdout.write(f"Task {task_id}: {reply.data}\n")
    return 0


def _ensure_sendable(path: Path) -> None:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InvalidInputError(f"{path} {what}. Give the path of a file.")
    size = path.stat().st_size
    if size == 0:
        raise InvalidInputError(f"The file {path.name} is empty. Give one with content.")
    if size > LONGEST_UPLOAD:
        raise InvalidInputError(
            f"The file {path.name} has {size / 1e6:.0f} MB; at most {LONGEST_UPLOAD >> 20} MB can be sent."
        )


async def _upload(person: SignedIn, path: Path) -> dict[str, Any]:
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    storage_path = f"{person.user_id}/uploads/{uuid4()}/file{path.suffix if path.suffix.isascii() else ''}"
    await call(
        f"upload {path.name}",
        person.client.storage.from_(BUCKET).upload(storage_path, path, {"content-type": media_type}),
        deadline=TRANSFER_SECONDS,
    )
    return {
        "name": path.name,
        "storage_path": storage_path,
        "media_type": media_type,
        "bytes": path.stat().st_size,
    }


async def _download_all(person: SignedIn, task_id: int, folder: Path) -> list[dict[str, Any]]:
    reply = await call(
        "list the artifacts",
        person.client.table("artifacts").select("*").eq("task_id", task_id).order("id").execute(),
    )
    saved: list[dict[str, Any]] = []
    for row in _rows(reply.data):
        content = await call(
            f"download {row['name']}",
            person.client.storage.from_(BUCKET).download(row["storage_path"]),
            deadline=TRANSFER_SECONDS,
        )
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise InvalidInputError(f"{row['name']} is not the file that the task left: its digest differs.")
        path = (folder / row["name"]).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise InvalidInputError(f"The artifact {row['name']} names a place outside of {folder}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        saved.append(
            {
                "name": row["name"],
                "path": str(path),
                "media_type": row["media_type"],
                "bytes": row["bytes"],
            }
        )
    return saved


def _result(task: Mapping[str, Any], artifacts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    usage: Mapping[str, Any] = task["usage"]
    return {
        "task_id": task["id"],
        "state": task["state"],
        "answer": task["answer"],
        "error": task["error"],
        "verdict": task["verdict"],
        "evidence": [
            {key: item.get(key) for key in ("check", "outcome", "detail")} for item in task["evidence"]
        ],
        "artifacts": list(artifacts),
        "usage": {key: usage.get(key) for key in ("turns", "input_tokens", "output_tokens", "cost")},
        "attempts": task["attempt"],
    }


def _show(task: Mapping[str, Any], artifacts: Sequence[Mapping[str, Any]]) -> None:
    console = Console()
    console.print()
    if task["answer"]:
        console.print(Markdown(safe(str(task["answer"])), hyperlinks=False))
    if task["error"]:
        console.print(safe(str(task["error"])), style="red", markup=False)
    words = {
        "proven": ("✓ proven", "green"),
        "refuted": ("✗ refuted", "red"),
        "unverified": ("? unverified: no executed check shows that this is true", "yellow"),
    }
    text, style = words.get(str(task["verdict"]), (str(task["state"]), "red"))
    console.print()
    console.print(text, style=style)
    if task["model_used"] == DEMO_MODEL:
        console.print("scripted demo, no AI", style="yellow")
    for item in task["evidence"]:
        console.print(f"  {'✓' if item['outcome'] == 'passed' else '✗'} {safe(item['check'])}", markup=False)
    for artifact in artifacts:
        console.print(
            f"  → {safe(artifact['path'])} ({artifact['bytes']:,} bytes)", markup=False, highlight=False
        )


def _row(data: Any) -> Mapping[str, Any]:
    """A function that returns one row gives an object, or a list of one, depending on the server."""
    return cast("Mapping[str, Any]", data[0] if isinstance(data, list) else data)


def _rows(data: Any) -> Sequence[Mapping[str, Any]]:
    return data
