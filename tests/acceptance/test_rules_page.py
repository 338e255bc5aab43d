"""Rules on the page: made, delivered, dead and sent again; and a failure that is told of anywhere."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.acceptance.page_world import PlayedWorker, free_port, start_page, stop
from tests.embedded_fixtures import RunningSupabase

pytestmark = pytest.mark.timeout(120)
WAIT = 30_000


async def fill(page: Page, label: str, text: str) -> None:
    box = page.get_by_label(label, exact=True)
    await box.fill(text)
    await box.press("Tab")


async def test_a_rule_from_the_form_to_the_dead_letter(
    embedded_supabase: RunningSupabase, tmp_path: Path
) -> None:
    port = free_port()
    page_process = start_page(embedded_supabase, tmp_path, port)
    worker = PlayedWorker(backend=embedded_supabase)
    database = await asyncpg.connect(embedded_supabase.database_url)
    await worker.publish_key()
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
            )
            page = await browser.new_page()
            await page.goto(f"http://127.0.0.1:{port}/")
            await page.get_by_role("button", name="Open as local user").click(timeout=WAIT)
            await page.get_by_text("Connected", exact=True).wait_for(timeout=WAIT)
            await page.get_by_role("button", name="Rules", exact=True).click(timeout=WAIT)
            await page.get_by_text("No e-mail can be sent yet").wait_for(timeout=WAIT)
            await page.get_by_text("When a task fails, write an e-mail to you.").wait_for(timeout=WAIT)

            await page.get_by_role("button", name="Add a rule").click()
            await fill(page, "Name", "The team")
            await page.get_by_text("Call a webhook").click()
            await fill(page, "Address", "http://hooks.example.org/")
            await page.get_by_role("button", name="Add", exact=True).click()
            await page.get_by_text("begins with https://").wait_for(timeout=WAIT)
            await fill(page, "Address", "https://hooks.example.org/tasks")
            await page.get_by_role("button", name="Add", exact=True).click()
            await page.get_by_text("this once only").wait_for(timeout=WAIT)
            assert (await page.locator("[data-testid=stCode]").inner_text()).startswith("whsec_")

            # A task fails while the person looks at something else; the rules stay on the screen.
            person = await database.fetchval(
                "select id from auth.users where email = $1", embedded_supabase.local_user[0]
            )
            await database.execute(
                "insert into public.tasks (user_id, prompt) values ($1, 'Sum up *November*')", person
            )
            await worker.fail(await worker.claim(), "There is no such file.")
            await page.get_by_text("Failed: Sum up *November*").wait_for(timeout=WAIT)

            claimed = await worker.rpc(
                "claim_deliveries",
                {"worker": worker.worker, "can_mail": False, "allowed": [], "most": 9, "lease_seconds": 60},
            )
            (delivery,) = [row for row in claimed["deliveries"] if row["rule"] == "The team"]
            given = {"worker": worker.worker, "delivery": delivery["id"], "fence": delivery["fence"]}
            await worker.rpc(
                "fail_delivery", given | {"error": "It is <b>gone</b>.", "retryable": False, "status": 500}
            )
            await page.get_by_role("button", name="1 dead letter").click(timeout=WAIT)
            await page.get_by_text("It is <b>gone</b>.").wait_for(timeout=WAIT)
            await page.get_by_role("button", name="Send again").click()
            await expect(page.get_by_role("button", name="Send again")).to_have_count(0, timeout=WAIT)
            state = await database.fetchval(
                "select state from public.deliveries where id = $1", delivery["id"]
            )
            assert state == "pending"

            card = page.locator("[class*=st-key-rule-card-]").filter(has_text="The team")
            await card.locator("[class*=st-key-rule-menu] button:visible").click()
            await page.get_by_text("Pause", exact=True).click()
            await card.locator(".stMarkdownBadge").filter(has_text="paused").wait_for(timeout=WAIT)
            await browser.close()
    finally:
        await database.execute(
            "delete from public.event_rules where name = 'The team'; "
            "delete from public.threads where title like 'Sum up%';"
        )
        await database.close()
        await worker.close()
        stop(page_process)
