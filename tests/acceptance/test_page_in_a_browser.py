"""The page as a person meets it: a real browser, the real page process, an embedded Supabase."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Download, Locator, Page, async_playwright, expect

from pythonic_assistant.adapters.secrets import vault
from tests.acceptance.page_world import PlayedWorker, free_port, plan, start_page, stop
from tests.embedded_fixtures import RunningSupabase, running_supabase

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
EVIDENCE = [
    {"check": "The sum is 3", "outcome": "passed", "detail": "3 = 3", "code": "assert 1 + 2 == 3"},
    {"check": "means.csv can be read", "outcome": "passed", "detail": "2 rows", "code": ""},
]
WAIT = 10_000


@dataclass(slots=True, kw_only=True)
class World:
    """A browser in front of a page in front of a database."""

    supabase: RunningSupabase
    browser: Browser
    worker: PlayedWorker
    port: int
    requests: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def visit(self, context: BrowserContext | None = None, path: str = "/") -> Page:
        context = context or await self.browser.new_context(viewport={"width": 1200, "height": 900})
        page = await context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        await page.goto(self.address + path)
        return page

    async def open(self) -> Page:
        """Open a new browser as the local user, in an empty thread."""
        page = await self.visit()
        await page.get_by_role("button", name="Open as local user").click(timeout=WAIT)
        await page.get_by_role("button", name="New thread").wait_for(timeout=WAIT)
        return page


async def ask(page: Page, prompt: str) -> None:
    """Type and send. While a file is still on its way Enter does nothing, so a person presses it again."""
    box = page.get_by_test_id("stChatInputTextArea")
    await box.fill(prompt)
    for _ in range(10):
        await box.press("Enter")
        try:
            await expect(box).to_be_empty(timeout=1_000)
        except AssertionError:
            continue
        return
    raise AssertionError("the page did not take the prompt")


def badge(page: Page, words: str) -> Locator:
    return page.locator(".stMarkdownBadge").filter(has_text=re.compile(rf" {words}$"))


async def announced(page: Page) -> list[str]:
    return await page.evaluate(
        "[...document.querySelectorAll('*')].flatMap(e => e.shadowRoot ? "
        "[...e.shadowRoot.querySelectorAll('[role=status] p')] : []).map(p => p.textContent)"
    )


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningSupabase]:
    with running_supabase() as running:
        yield running


@pytest.fixture(scope="module")
def page_port(backend: RunningSupabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    process = start_page(backend, tmp_path_factory.mktemp("home"), port)
    yield port
    stop(process)


@pytest.fixture
async def world(backend: RunningSupabase, page_port: int) -> AsyncIterator[World]:
    assert CHROMIUM.exists(), "Install Chromium: apt-get install chromium"
    worker = PlayedWorker(backend=backend)
    await worker.appear()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        made = World(supabase=backend, browser=browser, worker=worker, port=page_port)
        yield made
        await browser.close()
    await worker.close()
    assert made.problems == []
    assert {urlsplit(url).hostname for url in made.requests if url.startswith(("http", "ws"))} <= {
        "127.0.0.1"
    }


async def test_one_button_opens_it_and_a_refresh_remembers(world: World) -> None:
    page = await world.open()
    await expect(page.get_by_role("combobox", name="Assistant")).to_have_value("Scripted demo, no AI")
    cookies = await page.context.cookies()
    session = next(cookie for cookie in cookies if cookie.get("name", "").startswith("pa_sid"))
    assert session.get("httpOnly") is True
    assert session.get("sameSite") == "Lax"
    assert "pa_sid" not in await page.evaluate("document.cookie")
    await page.reload()
    await page.get_by_role("button", name="New thread").wait_for(timeout=WAIT)
    other = await world.visit(page.context)
    await other.get_by_role("button", name="New thread").wait_for(timeout=WAIT)
    await page.get_by_text("Account", exact=True).click()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="Open as local user").wait_for(timeout=WAIT)
    # The other tab is signed out too, without being touched.
    await other.get_by_role("button", name="Open as local user").wait_for(timeout=WAIT)


async def test_a_task_from_the_prompt_to_the_proven_answer(world: World) -> None:
    page = await world.open()
    worker = world.worker
    await ask(page, "Add 1 and 2")
    claim = await worker.claim()
    assert claim.prompt == "Add 1 and 2"
    await expect(badge(page, "Running")).to_be_visible(timeout=WAIT)
    await worker.tell(
        claim,
        ("run_started", {"model": "scripted-demo", "scripted": True, "sandbox": "namespaces"}),
        plan("Load the table", "Add the numbers"),
        ("step_started", {"step_id": "s1"}),
        ("code_written", {"step_id": "s1", "execution": 1, "code": "1 +", "thought": ""}),
    )
    await expect(page.get_by_text("1. Load the table")).to_be_visible(timeout=WAIT)
    error = {"step_id": "s1", "execution": 1, "outcome": "error", "output": "", "seconds": 0.1}
    await worker.tell(
        claim,
        ("code_executed", {**error, "error": "SyntaxError: invalid syntax"}),
        ("code_written", {"step_id": "s1", "execution": 2, "code": "1 + 2", "thought": ""}),
    )
    await expect(page.get_by_text("SyntaxError: invalid syntax")).to_be_visible(timeout=WAIT)
    await expect(page.get_by_text("Fix 1")).to_be_visible(timeout=WAIT)
    await worker.save(claim, "plot.png", PNG, "image/png")
    await worker.save(claim, "means.csv", b"species,mean\nAdelie,3701\nGentoo,5076\n", "text/csv")
    await worker.tell(claim, *[("check_executed", {"round": 1, **check}) for check in EVIDENCE])
    await worker.finish(
        claim,
        "The sum is **3**. ![x](https://evil.example/leak.png) <img src='https://evil.example/y.png'>",
        "proven",
        EVIDENCE,
    )
    await expect(badge(page, "Proven")).to_be_visible(timeout=WAIT)
    await expect(badge(page, "scripted demo, no AI")).to_be_visible()
    await expect(page.get_by_text("The sum is 3").first).to_be_visible()
    picture = page.get_by_alt_text("Picture plot.png, made by this task")
    await expect(picture).to_be_visible(timeout=WAIT)
    assert await picture.evaluate("e => e.complete && e.naturalWidth") == 1
    await page.get_by_text("Proven by 2 executed checks").click()
    await expect(page.get_by_text("means.csv can be read")).to_be_visible()
    downloads: asyncio.Queue[Download] = asyncio.Queue()
    page.context.on("page", lambda opened: opened.on("download", downloads.put_nowait))
    page.on("download", downloads.put_nowait)
    await page.get_by_role("link", name="means.csv").click()
    download = await asyncio.wait_for(downloads.get(), 10)
    assert download.suggested_filename == "means.csv"
    assert Path(await download.path()).read_bytes().startswith(b"species,mean")
    assert "Task “Add 1 and 2”: Proven." in await announced(page)
    await page.reload()
    await page.get_by_text("Worked for").click(timeout=WAIT)
    await expect(page.get_by_text("1. Load the table")).to_be_visible(timeout=WAIT)


async def test_an_unverified_answer_is_never_green_and_a_refuted_one_is_not_given(world: World) -> None:
    page = await world.open()
    await ask(page, "Write a haiku")
    claim = await world.worker.claim()
    await world.worker.finish(claim, "Black coats on white ice", "unverified")
    unverified = badge(page, "Unverified")
    await expect(unverified).to_be_visible(timeout=WAIT)
    red, green, _ = map(
        int, re.findall(r"\d+", await unverified.evaluate("e => getComputedStyle(e).color"))[:3]
    )
    assert red > green
    await expect(page.get_by_text("no executed check confirms")).to_be_visible()
    await ask(page, "Is it 7?")
    claim = await world.worker.claim()
    trace = 'Traceback (most recent call last):\n  File "check.py", line 1\nAssertionError: 8 is not 7'
    failed = [{"check": "It is 7", "outcome": "failed", "detail": trace, "code": "assert 8 == 7"}]
    await world.worker.tell(claim, ("run_failed", {"error": "", "refuted_answer": "Surely it is 7."}))
    await world.worker.fail(claim, "The check found 8.", failed)
    await expect(badge(page, "Refuted")).to_be_visible(timeout=WAIT)
    shown = page.get_by_test_id("stCode").filter(has_text="8 is not 7")
    await expect(shown).to_be_visible()
    assert trace in await shown.inner_text()
    await expect(page.get_by_text("Surely it is 7.")).to_have_count(0)
    await page.get_by_text("The answer that was refuted").click()
    await expect(page.get_by_text("Surely it is 7.")).to_be_visible(timeout=WAIT)
    await page.get_by_role("button", name="Retry from the start").click()
    again = await world.worker.claim()
    assert (again.task_id, again.attempt) == (claim.task_id, 2)
    await world.worker.finish(again, "It is 8.", "proven", EVIDENCE)
    await expect(page.get_by_text("It is 8.")).to_be_visible(timeout=WAIT)


async def test_cancelling_is_shown_until_it_is_confirmed(world: World) -> None:
    page = await world.open()
    await ask(page, "Count to a million")
    claim = await world.worker.claim()
    await expect(badge(page, "Running")).to_be_visible(timeout=WAIT)
    await page.get_by_test_id("stChatMessage").get_by_test_id("stMenuButton").click()
    await page.get_by_text("Cancel", exact=True).click()
    await expect(badge(page, "Cancelling…")).to_be_visible(timeout=WAIT)
    await world.worker.confirm_cancel(claim)
    await expect(badge(page, "Cancelled")).to_be_visible(timeout=WAIT)
    await expect(page.get_by_role("button", name="Go on")).to_be_visible()
    await expect(page.get_by_role("button", name="Retry from the failed step")).to_have_count(0)


async def test_an_upload_goes_with_the_task(world: World) -> None:
    page = await world.open()
    await (
        page.get_by_test_id("stChatInputFileUploadButton")
        .locator("input[type=file]")
        .set_input_files({"name": "Zahlen über alles.csv", "mimeType": "text/csv", "buffer": b"a\n1\n"})
    )
    await page.get_by_text("4.0B").wait_for(timeout=WAIT)
    await ask(page, "Sum the column")
    claim = await world.worker.claim()
    [given] = claim.inputs
    assert given["name"] == "Zahlen über alles.csv"
    assert given["bytes"] == 4
    content = await world.worker.http.get(f"/storage/v1/object/artifacts/{given['storage_path']}")
    assert content.content == b"a\n1\n"
    await world.worker.finish(claim, "1", "unverified")


async def attach(page: Page, *files: Path) -> None:
    await (
        page.get_by_test_id("stChatInputFileUploadButton")
        .locator("input[type=file]")
        .set_input_files([str(file) for file in files])
    )
    await expect(page.get_by_test_id("stFileChip")).to_have_count(len(files), timeout=WAIT)


async def test_why_something_is_not_sent_is_said_and_stays(world: World, tmp_path: Path) -> None:
    page = await world.open()
    box = page.get_by_test_id("stChatInputTextArea")
    alert = page.get_by_test_id("stBottomBlockContainer").get_by_test_id("stAlertContainer")
    (tmp_path / "empty.csv").touch()
    await attach(page, tmp_path / "empty.csv")
    await ask_in_vain(page, "Sum the column")
    await expect(alert).to_contain_text("The file empty.csv is empty", timeout=WAIT)
    await expect(alert).to_have_attribute("role", "alert")  # read out at once
    await expect(box).to_have_value("Sum the column")
    await page.get_by_role("button", name="Dismiss").click()
    await expect(alert).to_have_count(0, timeout=WAIT)
    # Streamlit would send this one without its file.
    (tmp_path / "large.csv").write_bytes(bytes(51 * 1024 * 1024))
    await attach(page, tmp_path / "large.csv")
    await box.press("Enter")
    await expect(alert).to_contain_text("“large.csv” could not be attached", timeout=WAIT)
    await expect(alert).to_contain_text("50")
    await page.get_by_test_id("stChatInputSubmitButton").click()
    await expect(box).to_have_value("Sum the column")
    with pytest.raises(AssertionError, match="no task was queued"):
        await world.worker.claim(seconds=0.5)
    await page.get_by_test_id("stFileChipDeleteBtn").get_by_role("button").click()
    await box.fill("x" * 20_001)
    await box.press("Enter")
    await expect(alert).to_contain_text("20,001 characters", timeout=WAIT)
    await expect(box).to_have_value("x" * 20_001)
    await ask(page, "Sum nothing")
    await expect(alert).to_have_count(0, timeout=WAIT)
    claim = await world.worker.claim()
    assert claim.inputs == []
    await world.worker.finish(claim, "0", "unverified")


async def test_a_thread_deleted_in_another_tab_is_told_and_the_text_kept(world: World) -> None:
    page = await world.open()
    await ask(page, "Soon to be deleted")
    claim = await world.worker.claim()
    await world.worker.finish(claim, "Here it is.", "unverified")
    await expect(page.get_by_text("Here it is.")).to_be_visible(timeout=WAIT)
    deleted = await world.worker.http.delete("/rest/v1/threads", params={"title": "eq.Soon to be deleted"})
    assert deleted.status_code < 300
    await ask_in_vain(page, "And now?")
    alert = page.get_by_test_id("stBottomBlockContainer").get_by_test_id("stAlertContainer")
    await expect(alert).to_contain_text("This thread does not exist", timeout=WAIT)
    await expect(page.get_by_test_id("stChatInputTextArea")).to_have_value("And now?")


async def ask_in_vain(page: Page, prompt: str) -> None:
    """Type and send something that comes back."""
    box = page.get_by_test_id("stChatInputTextArea")
    await box.fill(prompt)
    await expect(page.get_by_test_id("stChatInputSubmitButton")).to_be_enabled(timeout=WAIT)
    await box.press("Enter")


async def test_a_narrow_window_shows_wide_tables_and_gets_out_of_the_way(world: World) -> None:
    page = await world.open()
    await ask(page, "A wide table")
    claim = await world.worker.claim()
    head = "|" + "|".join(f" a long heading {n} " for n in range(12)) + "|"
    table = "\n".join([head, "|" + "---|" * 12, "|" + " value |" * 12])
    await world.worker.finish(claim, f"The table:\n\n{table}", "unverified")
    cell = page.get_by_text("a long heading 11")
    await cell.wait_for(timeout=WAIT)
    await page.set_viewport_size({"width": 390, "height": 844})
    box = await page.locator("[data-testid=stMarkdownContainer] table").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
    await cell.scroll_into_view_if_needed()
    seen = await cell.bounding_box()
    assert seen is not None
    assert seen["x"] + seen["width"] <= 390
    await page.reload()
    opener = page.get_by_test_id("stExpandSidebarButton")
    await opener.click(timeout=WAIT)
    sidebar = page.get_by_test_id("stSidebar")
    await expect(sidebar).to_have_attribute("data-collapsed", "false")
    await sidebar.get_by_role("button", name="A wide table", exact=False).first.click()
    await expect(sidebar).to_have_attribute("data-collapsed", "true", timeout=WAIT)


async def test_an_ice_breaker_brings_its_file_and_two_clicks_make_one_task(world: World) -> None:
    page = await world.open()
    await page.get_by_role("button", name="Table of means").dblclick(timeout=WAIT)
    claim = await world.worker.claim()
    assert [file["name"] for file in claim.inputs] == ["penguins.csv"]
    await world.worker.finish(claim, "Here is the table.", "unverified")
    await expect(page.get_by_text("Here is the table.")).to_be_visible(timeout=WAIT)
    await expect(badge(page, "Unverified")).to_have_count(1)
    with pytest.raises(AssertionError, match="no task was queued"):
        await world.worker.claim(seconds=0.5)


async def test_a_host_is_allowed_for_a_new_thread_and_forbidden_again(world: World) -> None:
    page = await world.open()
    await page.get_by_role("button", name="No internet").click(timeout=WAIT)
    box = page.get_by_role("textbox", name="Host name")
    await box.fill("https://api.github.com")
    await box.press("Enter")
    await expect(page.get_by_text("has a scheme")).to_be_visible(timeout=WAIT)
    await box.fill("api.github.com")
    await box.press("Enter")
    await expect(page.get_by_role("button", name="1 site allowed")).to_be_visible(timeout=WAIT)
    # The label has changed, and what was opened stays open.
    await expect(box).to_be_visible()
    await expect(page.get_by_text("has a scheme")).to_have_count(0)
    await page.keyboard.press("Escape")
    await ask(page, "Read my issues")
    claim = await world.worker.claim()
    assert claim.hosts == ["api.github.com"]
    await world.worker.finish(claim, "None are open.", "unverified")
    await expect(page.get_by_text("None are open.")).to_be_visible(timeout=WAIT)
    await page.get_by_role("button", name="1 site allowed").click(timeout=WAIT)
    await page.get_by_role("button", name="Forbid api.github.com").click(timeout=WAIT)
    await expect(page.get_by_role("button", name="No internet")).to_be_visible(timeout=WAIT)
    await page.keyboard.press("Escape")
    await ask(page, "And now?")
    claim = await world.worker.claim()
    assert claim.hosts == []
    await world.worker.finish(claim, "Nothing.", "unverified")


async def test_a_secret_is_sealed_and_never_shown_again(world: World) -> None:
    private = await world.worker.publish_key()
    page = await world.open()
    await page.get_by_test_id("stSidebar").get_by_role("button", name="Secrets").click(timeout=WAIT)
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_text("You have none yet.")).to_be_visible(timeout=WAIT)
    await dialog.get_by_role("textbox", name="Name", exact=True).fill("GITHUB_TOKEN")
    await dialog.get_by_role("textbox", name="Sites that may get it").fill("api.github.com")
    value = dialog.get_by_role("textbox", name="Value")
    await expect(value).to_have_attribute("type", "password")
    await value.fill("ghp_canary_0123456789")
    await dialog.get_by_role("button", name="Add").click()
    await expect(dialog.get_by_text("GITHUB_TOKEN is saved")).to_be_visible(timeout=WAIT)
    await expect(value).to_have_value("")
    await expect(dialog.get_by_text("never used")).to_be_visible()
    assert "ghp_canary" not in await page.content()
    found = await world.worker.http.get("/rest/v1/secrets", params={"name": "eq.GITHUB_TOKEN"})
    assert vault.unseal(private, found.json()[0]["ciphertext"]) == "ghp_canary_0123456789"
    await dialog.get_by_role("button", name="Remove").click()
    await dialog.get_by_role("button", name="Remove it").click()
    await expect(dialog.get_by_text("GITHUB_TOKEN is removed.")).to_be_visible(timeout=WAIT)
    assert (await world.worker.http.get("/rest/v1/secrets")).json() == []


async def test_what_is_typed_into_the_secrets_stays_when_the_whole_page_is_drawn_again(world: World) -> None:
    await world.worker.publish_key()
    page = await world.open()
    await page.get_by_test_id("stSidebar").get_by_role("button", name="Secrets").click(timeout=WAIT)
    dialog = page.get_by_role("dialog")
    name = dialog.get_by_role("textbox", name="Name", exact=True)
    await name.fill("GITHUB_TOKEN")
    unsafe = PlayedWorker(backend=world.supabase)
    await unsafe.appear(sandbox="unsafe")
    await expect(page.get_by_text("code runs without isolation")).to_be_visible(timeout=WAIT)
    await expect(name).to_have_value("GITHUB_TOKEN")
    await unsafe.close()
    await expect(page.get_by_text("code runs without isolation")).to_have_count(0, timeout=WAIT)
    await dialog.get_by_role("textbox", name="Value").fill("ghp_canary_0123456789")
    await dialog.get_by_role("textbox", name="Sites that may get it").fill("*.github.com")
    await dialog.get_by_role("button", name="Add").click()
    await expect(dialog.get_by_role("alert").filter(has_text="has a wildcard")).to_be_visible(timeout=WAIT)
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await page.get_by_test_id("stSidebar").get_by_role("button", name="Secrets").click()
    await expect(dialog.get_by_role("textbox", name="Name", exact=True)).to_have_value("", timeout=WAIT)
    await expect(dialog.get_by_text("has a wildcard")).to_have_count(0)


async def test_what_code_asked_of_the_internet_and_kept_is_on_the_card(world: World) -> None:
    page = await world.open()
    await ask(page, "Read my issues")
    claim = await world.worker.claim()
    asked = {"host": "api.github.com", "port": 443, "method": "GET", "outcome": "allowed", "status": 200}
    refused = {"host": "evil.example.com", "port": 443, "method": "POST", "outcome": "refused"}
    await world.worker.tell(
        claim,
        (
            "run_started",
            {
                "model": "m",
                "scripted": False,
                "sandbox": "namespaces",
                "limits": {"memory_bytes": 1 << 30, "execution_seconds": 120},
                "hosts": ["api.github.com"],
            },
        ),
        plan("Fetch"),
        *[("egress_requested", asked) for _ in range(30)],
        ("egress_requested", {**refused, "reason": "It is not among the sites of this task."}),
    )
    await world.worker.keep(claim, "by_label", b"{}")
    await expect(page.get_by_text("Internet: 31 requests to 1 site")).to_be_visible(timeout=WAIT)
    # What was refused is open by itself, and stands above what was not.
    await expect(page.get_by_text("It is not among the sites of this task.")).to_be_visible()
    await expect(page.get_by_text("30 times")).to_be_visible()
    await world.worker.finish(claim, "You have 31.", "unverified")
    await page.get_by_text("Worked for").click(timeout=WAIT)
    await expect(
        page.get_by_text("Isolated by Linux namespaces · 1 GiB memory · 2 min per step · 1 site allowed")
    ).to_be_visible(timeout=WAIT)
    await page.get_by_text("Kept for later tasks of this thread: 1 variable").click()
    await expect(page.get_by_text("json.load(open('inputs/saved_by_label.json'))")).to_be_visible(
        timeout=WAIT
    )


async def test_a_failed_task_names_the_sites_that_it_asked_for_in_vain(world: World) -> None:
    page = await world.open()
    await ask(page, "Read the news")
    claim = await world.worker.claim()
    refused = {"host": "news.example.com", "port": 443, "method": "GET", "outcome": "refused"}
    await world.worker.tell(claim, ("egress_requested", {**refused, "reason": "It is not allowed."}))
    await world.worker.fail(claim, "The news could not be read.")
    alert = page.get_by_test_id("stAlertContainer").filter(has_text="sites that were refused")
    await expect(alert).to_contain_text("news.example.com: It is not allowed.", timeout=WAIT)


async def test_a_worker_without_a_sandbox_is_warned_of_and_its_results_are_marked(world: World) -> None:
    page = await world.open()
    unsafe = PlayedWorker(backend=world.supabase)
    await unsafe.appear(sandbox="unsafe", note="PYTHONIC_SANDBOX is unsafe.")
    banner = page.get_by_test_id("stBottomBlockContainer").get_by_test_id("stAlertContainer")
    await expect(banner).to_contain_text("code runs without isolation", timeout=WAIT)
    await ask(page, "Run free")
    claim = await world.worker.claim()
    await world.worker.tell(claim, ("run_started", {"model": "m", "scripted": False, "sandbox": "unsafe"}))
    await world.worker.finish(claim, "Done.", "unverified")
    mark = badge(page, "ran without a sandbox")
    await expect(mark).to_be_visible(timeout=WAIT)
    red, green, _ = map(int, re.findall(r"\d+", await mark.evaluate("e => getComputedStyle(e).color"))[:3])
    assert red > green
    await page.set_viewport_size({"width": 390, "height": 844})
    await expect(banner).to_be_in_viewport()
    assistant = await page.get_by_role("combobox", name="Assistant").bounding_box()
    reach = await page.get_by_role("button", name="No internet").bounding_box()
    assert assistant is not None
    assert reach is not None
    assert abs(assistant["y"] - reach["y"]) < reach["height"], "they stand on one line"
    await expect(page.get_by_test_id("stChatInputTextArea")).to_be_in_viewport()
    await unsafe.close()
    await expect(banner).to_have_count(0, timeout=WAIT)
    await expect(mark).to_be_visible()  # what was done without a sandbox stays so


async def test_the_model_can_be_tested(world: World) -> None:
    page = await world.open()
    await page.get_by_text("Model", exact=True).click()
    await expect(page.get_by_text("No model is configured.")).to_be_visible()
    await expect(page.get_by_text("http://127.0.0.1:11434/v1")).to_be_visible()
    await page.get_by_role("button", name="Test the connection to the model").click()
    claim = await world.worker.claim()
    await world.worker.fail(claim, "No model is configured. Set OPENAI_API_KEY.")
    await expect(page.get_by_text("No model is configured. Set OPENAI_API_KEY.")).to_be_visible(timeout=WAIT)


async def test_threads_are_renamed_deleted_and_linked_to(world: World) -> None:
    page = await world.open()
    await ask(page, "A thread of its own")
    claim = await world.worker.claim()
    await world.worker.finish(claim, "Here it is.", "unverified")
    linked = await world.visit(page.context, f"/?task={claim.task_id}")
    await expect(linked.get_by_text("Here it is.")).to_be_visible(timeout=WAIT)
    menu = page.get_by_test_id("stSidebar").get_by_test_id("stMenuButton").first
    await menu.click()
    await page.get_by_text("Rename", exact=True).click()
    await page.get_by_label("Title").fill("Another name")
    await page.get_by_role("button", name="Rename", exact=True).last.click()
    await expect(page.get_by_test_id("stSidebar").get_by_text("Another name")).to_be_visible(timeout=WAIT)
    await menu.click()
    await page.get_by_text("Delete", exact=True).click()
    await page.get_by_role("button", name="Delete", exact=True).last.click()
    await expect(page.get_by_test_id("stSidebar").get_by_text("Another name")).to_have_count(0, timeout=WAIT)
    stranger = await world.visit(page.context, "/?thread=not-a-thread")
    await expect(stranger.get_by_text("This address names no thread.")).to_be_visible(timeout=WAIT)


async def test_events_are_on_screen_soon(world: World) -> None:
    page = await world.open()
    await ask(page, "Write marks")
    claim = await world.worker.claim()
    await world.worker.tell(
        claim,
        plan("Write"),
        ("step_started", {"step_id": "s1"}),
        ("code_written", {"step_id": "s1", "execution": 1, "code": "…", "thought": ""}),
    )
    await page.get_by_text("1. Write").wait_for(timeout=WAIT)
    await page.evaluate(
        "() => { window.seen = {}; new MutationObserver(() => {"
        " for (const m of document.body.innerText.match(/mark-\\d+/g) ?? [])"
        " window.seen[m] ??= Date.now() / 1000"
        " }).observe(document.body, { subtree: true, childList: true, characterData: true }) }"
    )
    sent: dict[str, float] = {}
    for number in range(30):
        piece = {"step_id": "s1", "execution": 1, "stream": "stdout", "text": f"mark-{number}\n"}
        sent[f"mark-{number}"] = await world.worker.tell(claim, ("output_written", piece))
        await asyncio.sleep(0.15)
    await expect(page.get_by_text("mark-29")).to_be_visible(timeout=WAIT)
    seen = await page.evaluate("window.seen")
    delays = sorted(seen[mark] - at for mark, at in sent.items())
    assert len(delays) == 30
    # The goal is 300 ms at p95 on an idle machine; the bound leaves room for a busy one.
    assert delays[27] < 1.0, delays
    await world.worker.finish(claim, "done", "unverified")


async def test_what_happens_while_the_database_is_away_is_caught_up(tmp_path: Path) -> None:
    """Realtime goes, comes back, and the page shows what it missed."""
    from tests.embedded_fixtures import start_supabase, stop_supabase, temporary_state_folder

    state = temporary_state_folder()
    running = start_supabase(state)
    port = free_port()
    process: subprocess.Popen[bytes] | None = None
    worker = PlayedWorker(backend=running)
    try:
        process = start_page(running, tmp_path / "home", port)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
            world = World(supabase=running, browser=browser, worker=worker, port=port)
            page = await world.open()
            await ask(page, "Outlive a loss")
            claim = await worker.claim()
            await worker.tell(claim, plan("First"), ("step_started", {"step_id": "s1"}))
            await expect(page.get_by_text("1. First")).to_be_visible(timeout=WAIT)
            gateway = urlsplit(running.url).port
            stop_supabase(running)
            await expect(page.get_by_text("Connection lost, reconnecting…").first).to_be_visible(timeout=WAIT)
            running = start_supabase(state, "--port", str(gateway))
            written = {"step_id": "s1", "execution": 1, "code": "while_away = True", "thought": ""}
            await worker.tell(claim, ("code_written", written))
            await expect(page.get_by_text("while_away = True")).to_be_visible(timeout=20_000)
            await expect(page.get_by_text("Connection lost, reconnecting…")).to_have_count(0, timeout=20_000)
            # The page's own process is replaced: the session is remembered.
            stop(process)
            process = start_page(running, tmp_path / "home", port)
            await page.reload()
            await expect(page.get_by_text("while_away = True")).to_be_visible(timeout=20_000)
            await browser.close()
    finally:
        if process is not None:
            stop(process)
        await worker.close()
        stop_supabase(running)


async def test_people_of_a_hosted_page_sign_up_and_see_their_own_only(
    backend: RunningSupabase, tmp_path: Path
) -> None:
    port = free_port()
    process = start_page(backend, tmp_path / "home", port, local=False)
    worker = PlayedWorker(backend=backend)
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
            world = World(supabase=backend, browser=browser, worker=worker, port=port)
            page = await world.visit()
            await page.get_by_label("E-mail").first.fill("nobody@example.com")
            await page.get_by_role("textbox", name="Password").first.fill("wrong-password")
            await page.get_by_test_id("stFormSubmitButton").first.get_by_role("button").click()
            await expect(page.get_by_text("The e-mail address or the password is wrong.")).to_be_visible(
                timeout=WAIT
            )
            await page.get_by_role("tab", name="Create an account").click()
            await page.get_by_label("E-mail").last.fill(f"p{time.time_ns()}@example.com")
            await page.get_by_role("textbox", name="Password").last.fill("a long password")
            await page.get_by_role("button", name="Create the account").click()
            await page.get_by_role("button", name="New thread").wait_for(timeout=WAIT)
            await expect(page.get_by_text("Your threads appear here.")).to_be_visible(timeout=WAIT)
            await ask(page, "A secret of mine")
            claim = await worker.claim()
            await worker.save(claim, "secret.txt", b"mine", "text/plain")
            await worker.finish(claim, "Kept.", "unverified")
            await expect(page.get_by_text("Kept.")).to_be_visible(timeout=WAIT)
            link = await page.get_by_role("link", name="secret.txt").get_attribute("href")
            assert link is not None
            url = f"{world.address}{link}"
            async with httpx.AsyncClient(trust_env=False) as stranger:
                assert (await stranger.get(url)).status_code == 401
            own = await page.context.request.get(url)
            assert await own.body() == b"mine"
            assert "attachment" in own.headers["content-disposition"]
            other = await world.visit(await browser.new_context())
            await other.get_by_role("tab", name="Create an account").click()
            await other.get_by_label("E-mail").last.fill(f"q{time.time_ns()}@example.com")
            await other.get_by_role("textbox", name="Password").last.fill("a long password")
            await other.get_by_role("button", name="Create the account").click()
            await other.get_by_role("button", name="New thread").wait_for(timeout=WAIT)
            assert (await other.context.request.get(url)).status == 404
            await other.goto(f"{world.address}/?task={claim.task_id}")
            await expect(other.get_by_text("There is no such task of yours.")).to_be_visible(timeout=WAIT)
            await browser.close()
    finally:
        stop(process)
        await worker.close()
