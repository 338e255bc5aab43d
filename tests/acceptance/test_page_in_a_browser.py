"""The page as a person meets it: a real browser, the real page process, an embedded Supabase."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Download, async_playwright, expect

from tests.acceptance.browser import ARGUMENTS, CHROMIUM, EVIDENCE, PNG, WAIT, World, announced, ask, badge
from tests.acceptance.page_world import PlayedWorker, free_port, plan, start_page, stop
from tests.embedded_fixtures import RunningSupabase


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
    await expect(page.get_by_text("The sum is 3").filter(visible=True).first).to_be_visible()
    picture = page.get_by_alt_text("Picture plot.png, made by this task")
    await expect(picture).to_be_visible(timeout=WAIT)
    assert await picture.evaluate("e => e.complete && e.naturalWidth") == 1
    await page.get_by_text("Proven by 2 executed checks").click()
    await expect(page.get_by_text("means.csv can be read").filter(visible=True).first).to_be_visible()
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
    await expect(shown).to_be_visible(timeout=WAIT)
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
