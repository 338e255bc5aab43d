"""A newcomer's first minutes: start, one click, one sample task; then a row by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.acceptance.stack import Stack, running_stack, until

pytestmark = pytest.mark.timeout(180)
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PROMPT = "Which penguins are unusually heavy for their species, and by how much?"
WAIT = 20_000


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture
def page(stack: Stack, browser: Browser) -> Iterator[Page]:
    """A signed-in page of a fresh browser profile; a fault of the page's own scripts fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    made = context.new_page()
    faults: list[str] = []
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.goto(stack.page)
    made.get_by_role("button", name="Open as local user").click(timeout=WAIT)
    expect(made.get_by_role("button", name="New thread")).to_be_visible(timeout=WAIT)
    yield made
    context.close()
    assert faults == []


def badge(page: Page, words: str) -> Locator:
    return page.locator(".stMarkdownBadge").filter(has_text=re.compile(rf" {words}$")).first


def test_one_click_and_a_sample_give_the_plot_with_the_failure_and_its_fix(page: Page, stack: Stack) -> None:
    page.get_by_role("button", name=re.compile("Plot with trend lines")).click(timeout=WAIT)
    expect(badge(page, "Proven")).to_be_visible(timeout=WAIT)
    expect(badge(page, "scripted demo, no AI")).to_be_visible()
    picture = page.get_by_role("img", name=re.compile("plot.png"))
    expect(picture).to_be_visible(timeout=WAIT)
    until(lambda: picture.evaluate("image => image.naturalWidth") > 100, seconds=10, what="the plot")
    worked = page.get_by_text(re.compile("^Worked for"))
    expect(worked).to_contain_text("1 error fixed")
    worked.click()
    expect(page.get_by_text("KeyError").first).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("Draw the plot").first).to_be_visible()
    page.reload()
    expect(badge(page, "Proven")).to_be_visible(timeout=WAIT)
    (row,) = stack.rest("GET", "tasks?kind=eq.task&order=id.desc&limit=1")
    assert (row["state"], row["verdict"]) == ("succeeded", "proven")
    assert stack.rest("GET", f"artifacts?task_id=eq.{row['id']}")[0]["media_type"] == "image/png"
    steps = stack.rest("GET", f"task_steps?task_id=eq.{row['id']}&order=position")
    assert [step["state"] for step in steps] == ["succeeded"] * len(steps)
    assert max(step["executions"] for step in steps) == 2


def test_a_row_inserted_by_hand_runs_and_appears_without_a_reload(page: Page, stack: Stack) -> None:
    penguins = (Path(__file__).parents[2] / "examples" / "penguins.csv").read_bytes()
    user = stack.rest("GET", "profiles?limit=1")[0]["id"]
    key = stack.keys["secret_key"]
    path = f"{user}/uploads/by-hand/penguins.csv"
    httpx.post(
        f"{stack.supabase}/storage/v1/object/artifacts/{path}",
        content=penguins,
        headers={"apikey": key, "authorization": f"Bearer {key}", "content-type": "text/csv"},
        timeout=20,
    ).raise_for_status()
    file = {"name": "penguins.csv", "storage_path": path, "media_type": "text/csv", "bytes": len(penguins)}
    task = stack.insert_task(prompt=PROMPT, inputs=[file])
    row = until(lambda: (r := stack.task(task))["finished_at"] and r, seconds=20, what="the task's end")
    assert (row["state"], row["verdict"]) == ("succeeded", "proven"), row["error"]
    page.get_by_role("button", name=re.compile("Which penguins")).first.click(timeout=WAIT)
    expect(badge(page, "Proven")).to_be_visible(timeout=WAIT)
    page.get_by_text(re.compile("Proven by")).first.click()
    expect(page.get_by_text(row["evidence"][0]["check"]).first).to_be_visible(timeout=WAIT)


def test_another_question_says_how_to_configure_a_model(page: Page) -> None:
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill("What is the meaning of this?")
    box.press("Enter")
    expect(page.get_by_text(re.compile("OPENAI_API_KEY.*OPENAI_BASE_URL")).first).to_be_visible(timeout=WAIT)
