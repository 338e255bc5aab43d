"""One database and one page for all tests in a browser; each test opens a browser of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import async_playwright

from tests.acceptance.browser import ARGUMENTS, CHROMIUM, World
from tests.acceptance.page_world import PlayedWorker, free_port, start_page, stop
from tests.embedded_fixtures import RunningSupabase, running_supabase


@pytest.fixture(scope="session")
def backend() -> Iterator[RunningSupabase]:
    with running_supabase() as running:
        yield running


@pytest.fixture(scope="session")
def page_port(backend: RunningSupabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    process = start_page(backend, tmp_path_factory.mktemp("home"), port)
    yield port
    stop(process)


@pytest.fixture
async def world(backend: RunningSupabase, page_port: int) -> AsyncIterator[World]:
    assert CHROMIUM.exists(), "Install Chromium: apt-get install chromium"
    backend.clear_queue()
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
