"""Studio in a real browser: the one-time link opens it, and a row typed into the editor is a row."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import httpx
import pytest
from playwright.async_api import async_playwright

from embedded_supabase import studio_link
from tests.embedded_fixtures import RunningSupabase

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
OUT = Path(__file__).parent.parent / "out"


@pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="no Chromium: apt-get install chromium"
)
async def test_a_row_typed_into_the_table_editor_is_a_task(embedded_supabase: RunningSupabase) -> None:
    assert CHROMIUM is not None, "in CI a missing browser is a failure"
    person = embedded_supabase.sign_up()
    link = await studio_link(embedded_supabase.state)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(10_000)
        await page.goto(link)
        await page.get_by_role("link", name="tasks", exact=True).click()
        await page.get_by_role("button", name="Insert").first.click()
        await page.locator("#insert-user_id").fill(person["user"]["id"])
        await page.locator("#insert-prompt").fill("How many days are left this year?")
        async with page.expect_response(lambda answer: "/rest/v1/tasks" in answer.url) as inserted:
            await page.get_by_role("button", name="Insert row").click()
        assert (await inserted.value).status == 201
        await page.get_by_text("How many days are left this year?").first.wait_for()
        OUT.mkdir(exist_ok=True)
        await page.screenshot(path=OUT / "studio.png")
        assert "ticket" not in page.url
        await browser.close()
    rows = httpx.get(
        f"{embedded_supabase.url}/rest/v1/tasks?select=prompt,state&user_id=eq.{person['user']['id']}",
        headers={"apikey": embedded_supabase.secret_key},
    ).json()
    assert rows == [{"prompt": "How many days are left this year?", "state": "queued"}]
