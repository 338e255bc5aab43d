"""Schedules on the page: understood before they are saved, then paused, run, edited and removed."""

from __future__ import annotations

import re

import httpx
from playwright.async_api import Locator, Page, expect
from supabase import AsyncClientOptions, acreate_client

from pythonic_assistant.adapters.schedules.planning import plan_of
from pythonic_assistant.adapters.store.supabase_schedules import SupabaseSchedules
from tests.acceptance.browser import WAIT, World, ask, badge
from worker.schedules import ScheduleClock


async def open_dialog(world: World) -> tuple[Page, Locator]:
    context = await world.browser.new_context(
        viewport={"width": 1200, "height": 1000}, timezone_id="Europe/Berlin"
    )
    page = await world.visit(context)
    await page.get_by_role("button", name="Open as local user").click(timeout=WAIT)
    await page.get_by_test_id("stSidebar").get_by_role("button", name="Schedules").click(timeout=WAIT)
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_text("Add a schedule")).to_be_visible(timeout=WAIT)
    return page, dialog


async def say_when(dialog: Locator, words: str) -> None:
    field = dialog.get_by_role("textbox", name="When")
    await field.fill(words)
    await field.press("Enter")


async def plan(world: World) -> None:
    """What a worker does when it is woken."""
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
        client = await acreate_client(world.supabase.url, world.supabase.secret_key, options)
        await ScheduleClock(SupabaseSchedules(client), plan_of).fire_all()
        await client.realtime.close()


async def test_a_schedule_from_its_words_to_its_end(world: World) -> None:
    page, dialog = await open_dialog(world)
    await dialog.get_by_role("textbox", name="What shall be done").fill("Count the orders")
    save = dialog.get_by_role("button", name="Add schedule")
    await say_when(dialog, "whenever it rains")
    await expect(dialog.get_by_text("was not understood")).to_be_visible(timeout=WAIT)
    await expect(save).to_be_disabled()
    await say_when(dialog, "every weekday at 8")
    understood = dialog.locator(".st-key-schedule-understood")
    await expect(understood.get_by_text("At 08:00 on Monday through Friday")).to_be_visible(timeout=WAIT)
    times = r"(?:Mon|Tue|Wed|Thu|Fri) \d+ \w+ \d{4}, 08:00"
    await expect(understood).to_contain_text(re.compile(rf"(?:{times}[\s\S]*){{5}}"), timeout=WAIT)
    assert len(re.findall(times, await understood.inner_text())) == 5
    await save.click()
    await expect(dialog.get_by_text("Added: At 08:00")).to_be_visible(timeout=WAIT)
    await expect(dialog.get_by_role("textbox", name="What shall be done")).to_have_value("")
    rows = (await world.worker.http.get("/rest/v1/schedules?prompt=eq.Count the orders")).json()
    assert [(row["cron"], row["time_zone"], row["missed"]) for row in rows] == [
        ("0 8 * * 1-5", "Europe/Berlin", "skip")
    ]
    await plan(world)

    await dialog.get_by_role("button", name="Run Count the orders now").click()
    await expect(dialog.get_by_text("runs now")).to_be_visible(timeout=WAIT)
    claim = await world.worker.claim()
    assert claim.prompt == "Count the orders"
    await world.worker.finish(claim, "Seven.", "unverified")

    await dialog.get_by_role("button", name="Pause Count the orders").click()
    await expect(badge(page, "Paused")).to_be_visible(timeout=WAIT)
    await expect(dialog.get_by_text("Next:")).to_have_count(0)
    await dialog.get_by_text("Times and runs").click()
    await expect(dialog.get_by_text("Unverified")).to_be_visible(timeout=WAIT)
    await expect(dialog.get_by_role("link", name=f"Task {claim.task_id}")).to_be_visible()
    await dialog.get_by_role("button", name="Resume Count the orders").click()
    await expect(dialog.get_by_text("Next:")).to_be_visible(timeout=WAIT)

    await dialog.get_by_role("button", name="Edit Count the orders").click()
    when = dialog.get_by_role("textbox", name="When")
    await expect(when.last).to_have_value("0 8 * * 1-5", timeout=WAIT)
    await expect(when).to_have_count(1)  # the form that was there before is gone
    await say_when(dialog, "on the last day of the month at 18:00")
    await expect(dialog.get_by_text("At 18:00 on the last day")).to_be_visible(timeout=WAIT)
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_text("Saved: At 18:00")).to_be_visible(timeout=WAIT)

    await dialog.get_by_role("button", name="Remove Count the orders").click()
    await dialog.get_by_role("button", name="Remove it").click()
    await expect(dialog.get_by_text("is removed.")).to_be_visible(timeout=WAIT)
    assert (await world.worker.http.get("/rest/v1/schedules?prompt=eq.Count the orders")).json() == []
    await page.close()


async def test_one_moment_becomes_a_task_that_waits(world: World) -> None:
    page, dialog = await open_dialog(world)
    await dialog.get_by_role("textbox", name="What shall be done").fill("Water the plants")
    await say_when(dialog, "tomorrow at 9")
    await expect(dialog.get_by_text("not a schedule")).to_be_visible(timeout=WAIT)
    await dialog.get_by_role("button", name="Ask it then").click()
    await expect(dialog.get_by_text("The task waits until")).to_be_visible(timeout=WAIT)
    (task,) = (await world.worker.http.get("/rest/v1/tasks?prompt=eq.Water the plants")).json()
    assert (task["state"], task["schedule_id"]) == ("scheduled", None)
    await page.close()


async def test_the_next_task_is_asked_for_later(world: World) -> None:
    page = await world.open()
    await page.get_by_role("button", name="Now").click(timeout=WAIT)
    field = page.get_by_role("textbox", name="When to begin")
    await field.fill("every day at 9")
    await field.press("Enter")
    await expect(page.get_by_text("add it under Schedules")).to_be_visible(timeout=WAIT)
    await field.fill("tomorrow at 9")
    await field.press("Enter")
    await expect(page.get_by_role("button", name=re.compile(r"\d{4}, 09:00"))).to_be_visible(timeout=WAIT)
    await page.keyboard.press("Escape")
    await ask(page, "Water the plants by and by")
    await expect(badge(page, "Scheduled")).to_be_visible(timeout=WAIT)
    await expect(page.get_by_role("button", name="Now")).to_be_visible(timeout=WAIT)
    await page.close()
