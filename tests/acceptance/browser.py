"""A browser in front of a page in front of a database."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Locator, Page, expect
from playwright.async_api import TimeoutError as NotInTime

from tests.acceptance.page_world import PlayedWorker
from tests.embedded_fixtures import RunningSupabase

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
WAIT = 30_000
expect.set_options(timeout=WAIT)  # its own 5 s are too few beside tests that use all processors


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
    try:
        await box.wait_for(timeout=WAIT)
    except NotInTime as error:
        raise AssertionError(f"no place to type: {await page.inner_text('body')}") from error
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
